"""Threshold attention for `experiments.tools.ladder`."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tools import ladder_rungs
from kernels_pallas import testing
from kernels_pallas.threshold_attention import (
  reference,
  result,
  shapes,
  triton,
  triton_one_pass,
)

Kernels = Mapping[str, Callable[..., result.Attended]]

KERNELS: Kernels = {
  "triton": triton.attend,
  "triton_one_pass": triton_one_pass.attend,
}
SHARE = 0.25  # of value rows kept

_LIFT = 16.0  # nats by which the scores of kept tokens stand out
_SPREAD = 0.25  # standard deviation of scores besides, in nats
# Of `out`, in bfloat16 with its own rounding; of the rest, which is float32.
_OUT_TOLERANCES = {"bfloat16": 2e-3 + 2.0**-8, "float32": 1e-5}
_TOLERANCE = 1e-5


class Inputs(NamedTuple):
  """One step of a shape.

  Attributes:
    arguments: of an implementation, the threshold left out.
    sifted: the threshold that keeps `SHARE` of the rows.
  """

  arguments: tuple[jax.Array, ...]
  sifted: jax.Array

  def to(self, log_threshold: jax.Array) -> tuple[jax.Array, ...]:
    """All arguments, with this threshold."""
    *rest, window_start = self.arguments
    return (*rest, log_threshold, window_start)


def rungs(
  chosen: Sequence[shapes.Shape], kernels: Kernels = KERNELS
) -> list[ladder_rungs.Rung]:
  """Checks every shape, and times those of one query a row.

  Args:
    chosen: the shapes.
    kernels: implementations by name.
  """
  return [_rung(shape, kernels) for shape in chosen]


def _rung(shape: shapes.Shape, kernels: Kernels) -> ladder_rungs.Rung:
  return ladder_rungs.Rung(
    "threshold_attention",
    shape.name,
    dataclasses.asdict(shape),
    lambda: check(make(shape), kernels),
    lambda: candidates(make(shape), kernels) if shape.queries == 1 else {},
  )


@functools.partial(jax.jit, static_argnums=0)
def make(shape: shapes.Shape) -> Inputs:
  """Makes rows of full length over scattered pages.

  A random `SHARE` of the tokens scores `_LIFT` above the others for every head,
  so that rounding cannot change what is kept, and heads agree on it.

  Args:
    shape: the sizes.
  """
  q_like, k_like, v_like, table_like = shape.arguments()[:4]
  keys = jax.random.split(jax.random.key(0), 4)
  normal = lambda key, like: jax.random.normal(key, like.shape, like.dtype)
  kept = jax.random.bernoulli(
    keys[3], SHARE, (k_like.shape[0], k_like.shape[3])
  )
  lift = (_LIFT * kept[:, None]).astype(k_like.dtype)
  k = (_SPREAD * normal(keys[1], k_like)).at[:, :, 0].set(lift)
  q = normal(keys[0], q_like).at[..., 0].set(math.sqrt(shape.head_dim))
  table = np.random.default_rng(0).permutation(k.shape[0])
  tokens = table_like.shape[1] * shape.page_size
  lengths = jnp.full((shape.batch,), tokens, jnp.int32)
  start = result.count_seen(lengths, shape.queries) - 1
  # log-sum-exp of the tokens that stand out, less a quarter of their lift.
  level = _LIFT + math.log(SHARE * tokens) + _SPREAD**2 / 2
  sifted = jnp.full(q.shape[:3], 0.75 * _LIFT - level, jnp.float32)
  table = jnp.asarray(table.reshape(table_like.shape), jnp.int32)
  arguments = (q, k, normal(keys[2], v_like), table, lengths, start)
  return Inputs(arguments, sifted)


def check(inputs: Inputs, kernels: Kernels) -> Iterator[ladder_rungs.Check]:
  """Compares implementations with the reference.

  Args:
    inputs: of the step.
    kernels: implementations by name.

  Yields:
    For each and each threshold whether it agrees, and if not, how.
  """
  dense = jnp.full_like(inputs.sifted, -jnp.inf)
  for case, threshold in {"all rows": dense, "some": inputs.sifted}.items():
    args = inputs.to(threshold)
    plain = bind(reference.attend, inputs)(*args)
    for name, attend in kernels.items():
      call = bind(attend, inputs)
      yield ladder_rungs.judge(
        name,
        case,
        lambda call=call, args=args, plain=plain: _compare(call(*args), plain),
      )


def _compare(got: result.Attended, plain: result.Attended) -> None:
  """Raises unless they agree."""
  for part, rtol in (
    (lambda x: {"out": x.out}, _OUT_TOLERANCES[str(plain.out.dtype)]),
    (lambda x: x._replace(out=()), _TOLERANCE),
  ):
    ours, theirs = part(got), part(plain)
    testing.assert_matches_reference(
      lambda ours=ours: ours, lambda theirs=theirs: theirs, (), rtol=rtol
    )


def candidates(
  inputs: Inputs, kernels: Kernels
) -> dict[str, Callable[[], Any]]:
  """What is timed: implementations, JAX's attention, and reads of the bytes.

  Args:
    inputs: of the step; one query a row.
    kernels: implementations by name.

  Returns:
    Calls by name, as `ladder_rungs.repeat` makes them.
  """
  dense = jnp.full_like(inputs.sifted, -jnp.inf)
  cases = {"all rows": dense, f"{SHARE:.0%} of rows": inputs.sifted}
  found = {}
  for name, attend in kernels.items():
    for case, threshold in cases.items():
      call = bind(attend, inputs)
      found[f"{name}, {case}"] = ladder_rungs.repeat(
        call, *inputs.to(threshold)
      )
  q, k_pages, v_pages, table, *_ = inputs.arguments
  k = _contiguous(k_pages.swapaxes(2, 3), table)
  v = _contiguous(v_pages, table)
  for name in ("cudnn", "xla"):
    call = functools.partial(jax.nn.dot_product_attention, implementation=name)
    found[f"jax.nn.dot_product_attention, {name}"] = ladder_rungs.repeat(
      jax.jit(call), q, k, v
    )
  read = jax.jit(lambda *pools: [jnp.sum(x, dtype=jnp.float32) for x in pools])
  some = v_pages[: math.ceil(SHARE * v_pages.shape[0])]
  found["read K and V"] = ladder_rungs.repeat(read, k_pages, v_pages)
  found[f"read K and {SHARE:.0%} of V"] = ladder_rungs.repeat(
    read, k_pages, some
  )
  return found


def bind(
  attend: Callable[..., result.Attended], inputs: Inputs
) -> Callable[..., result.Attended]:
  """Jits an implementation, its scale set and without sinks."""
  scale = inputs.arguments[0].shape[-1] ** -0.5
  return jax.jit(functools.partial(attend, scale=scale, sinks=0))


def _contiguous(pages, table):
  """Turns pages `[page, k, t, d]` into what JAX takes, `[b, tokens, k, d]`."""
  x = pages[table].swapaxes(2, 3)
  return x.reshape(table.shape[0], -1, *x.shape[3:])
