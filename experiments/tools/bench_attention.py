"""The attention suites of `experiments.tools.bench`."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tools import rivals
from kernels_pallas.threshold_attention import xla
from research.cluster import probe
from research.telemetry import bench, peer
from research.transformer import attention, cache

LENGTHS = (8_192, 32_768, 131_072)
SHARES = (0.1, 0.25, 0.5, 1.0)  # of value rows kept, after the union
_PAGE = 128  # tokens

Suite = Iterator[tuple[str, list[bench.BenchResult]]]


class Shape(NamedTuple):
  """One layer's attention."""

  heads: int
  kv_heads: int
  width: int


SHAPES = {"SmolLM2": Shape(9, 3, 64), "Llama-3-8B": Shape(32, 8, 128)}


class Inputs(NamedTuple):
  """One decode step over a cache of random tokens, pages out of order."""

  q: jax.Array
  pages: cache.Pages
  table: jax.Array
  lengths: jax.Array


def attend(
  *,
  rounds: int,
  lengths: tuple[int, ...] = LENGTHS,
  shapes: dict[str, Shape] | None = None,
) -> Suite:
  """Times decode attention of one layer at batch 1, in float32.

  Rows to keep lie at random, so that no page can be left out whole. The limit
  reads keys and values from memory; short contexts lie in caches and may beat
  it.

  Args:
    rounds: timed rounds.
    lengths: tokens of context.
    shapes: by name.

  Yields:
    A title and its rows, in seconds.
  """
  for title, shape in (shapes or SHAPES).items():
    for tokens in lengths:
      inputs = make_inputs(shape, tokens)
      with _torch(shape, tokens) as torch:
        candidates = _ours(inputs) | _jax_rival(inputs) | torch
        size = inputs.pages.k.nbytes
        candidates |= {
          f"limit: keys, {share:.0%} of values": _limit(size * (1 + share))
          for share in (0.25, 1.0)
        }
        rows = bench.interleave(
          candidates,
          rounds=rounds,
          command="python -m experiments.tools.bench --suite=attention",
        )
      partial = {_name(share) for share in SHARES[:-1]}
      others = [name for name in candidates if name not in partial]
      title_of = f"{title} decode attention, {tokens:,} tokens"
      yield title_of, against(rows, others)


def against(
  rows: list[bench.BenchResult], names: list[str]
) -> list[bench.BenchResult]:
  """Returns rows with the ratios to some of the candidates alone."""
  return [
    dataclasses.replace(
      row, ratio_to={n: x for n, x in row.ratio_to.items() if n in names}
    )
    for row in rows
  ]


def make_inputs(shape: Shape, tokens: int) -> Inputs:
  """Makes the inputs of one step.

  Args:
    shape: heads and widths.
    tokens: of context.
  """
  rng = np.random.default_rng(0)
  normal = lambda *sizes: jnp.asarray(rng.standard_normal(sizes, np.float32))
  count = -(-tokens // _PAGE)
  return Inputs(
    normal(1, 1, shape.heads, shape.width),
    cache.Pages(
      normal(count, shape.kv_heads, shape.width, _PAGE),
      normal(count, shape.kv_heads, _PAGE, shape.width),
    ),
    jnp.asarray(rng.permutation(count)[None], jnp.int32),
    jnp.full((1,), tokens, jnp.int32),
  )


def threshold_for(inputs: Inputs, share: float) -> jax.Array:
  """Finds thresholds that keep a share of the value rows.

  The heads of a group get one threshold, the one that their union needs.

  Args:
    inputs: of the step; tokens must fill the pages.
    share: of the rows, after the union.

  Returns:
    `log_threshold` for `xla.attend`.
  """
  _, kv_heads, width, _ = inputs.pages.k.shape
  heads = inputs.q.shape[2]
  if share >= 1:
    return jnp.full((1, 1, heads), -jnp.inf)
  rows = inputs.q.reshape(kv_heads, -1, width) * width**-0.5
  scores = jnp.einsum("kgd,pkdt->kgpt", rows, inputs.pages.k)
  scores = scores.reshape(*rows.shape[:2], -1)
  relative = scores - jax.nn.logsumexp(scores, axis=-1, keepdims=True)
  level = np.quantile(np.asarray(relative.max(axis=1)), 1 - share, axis=-1)
  found = np.repeat(level, heads // kv_heads)
  return jnp.asarray(found[None, None], jnp.float32)


def sifting(inputs: Inputs, share: float) -> Callable[[], jax.Array]:
  """Returns a call that attends and keeps a share of the value rows.

  Args:
    inputs: of the step.
    share: of the rows, after the union.
  """
  scale = inputs.q.shape[-1] ** -0.5
  call = jax.jit(functools.partial(xla.attend, scale=scale, sinks=0))
  args = (inputs.q, *inputs.pages, inputs.table, inputs.lengths)
  args += (threshold_for(inputs, share), inputs.lengths[:, None] - 1)
  return lambda: call(*args).out


def _ours(inputs: Inputs) -> dict[str, Callable[[], jax.Array]]:
  """Dense attention, and threshold attention for each share of rows."""
  dense = jax.jit(attention.attend_pages)
  positions = inputs.lengths[:, None] - 1
  return {"dectet, dense": lambda: dense(*inputs[:3], positions)} | {
    _name(share): sifting(inputs, share) for share in SHARES
  }


def _name(share: float) -> str:
  return f"dectet, {share:.0%} of rows"


def _jax_rival(inputs: Inputs) -> dict[str, Callable[[], jax.Array]]:
  """JAX's own dense attention, over the same cache in its own layout."""
  ordered = lambda x: x[inputs.table[0]]
  k = ordered(inputs.pages.k).transpose(0, 3, 1, 2)  # page t k d
  v = ordered(inputs.pages.v).transpose(0, 2, 1, 3)
  k, v = (x.reshape(1, -1, *x.shape[2:]) for x in (k, v))
  call = jax.jit(jax.nn.dot_product_attention)
  return {"jax.nn.dot_product_attention": lambda: call(inputs.q, k, v)}


@contextlib.contextmanager
def _torch(
  shape: Shape, tokens: int
) -> Iterator[dict[str, Callable[[], peer.Reply]]]:
  """Torch's attention, and the same by two products, on its own tensors."""
  load = {"op": "load", **shape._asdict(), "tokens": tokens}
  with rivals.worker("attention") as worker:
    call = rivals.loaded(worker, load | {"threads": rivals.THREADS})
    yield {
      "torch scaled_dot_product_attention": lambda: call({"op": "sdpa"}),
      "torch, two products": lambda: call({"op": "products"}),
    }


def _limit(num_bytes: float) -> Callable[[], peer.Reply]:
  """Returns a call that says how long reading so much takes right now."""
  return lambda: peer.Reply(num_bytes / probe.memory_bandwidth(repeats=1), {})
