"""Collectives as JAX primitives, with the rules that `lax.psum` and kin have.

To autodiff they are linear maps whose transposes are collectives too
(all-gather and reduce-scatter are each other's), instead of the transposed
slices and permutations of a schedule. An all-reduce may also say that its
result is the same on all ranks, which `shard_map` cannot see by itself.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from collectives import algorithms, kernels, lowering
from collectives import schedule as sched


def all_reduce(
  x: jax.Array,
  axes: tuple[str, ...],
  *,
  op: str,
  algorithm: str,
  chunks: int,
) -> jax.Array:
  """Reduces arrays of equal shape; `op` is `"sum"` or `"max"`."""
  primitive = _max_p if op == "max" else _sum_p
  return primitive.bind(
    _vary(x, axes), axes=axes, algorithm=algorithm, chunks=chunks
  )


def all_gather(
  x: jax.Array, axes: tuple[str, ...], *, algorithm: str, chunks: int
) -> jax.Array:
  """Stacks the arrays of all ranks along a new first axis."""
  return _gather_p.bind(
    _vary(x, axes), axes=axes, algorithm=algorithm, chunks=chunks
  )


def reduce_scatter(
  x: jax.Array, axes: tuple[str, ...], *, algorithm: str, chunks: int
) -> jax.Array:
  """Sums arrays over ranks; each keeps its own index of the first axis."""
  return _scatter_p.bind(
    _vary(x, axes), axes=axes, algorithm=algorithm, chunks=chunks
  )


def _vary(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
  """Tells `shard_map(check_vma=True)` that ranks may hold different arrays."""
  missing = tuple(a for a in axes if a not in jax.typeof(x).mat.varying)
  return lax.pcast(x, missing, to="varying")


@functools.lru_cache(maxsize=256)
def _schedule(
  collective: sched.Collective, algorithm: str, grid: sched.Grid, chunks: int
) -> sched.Schedule:
  return algorithms.ALGORITHMS[algorithm].schedule(collective, grid, chunks)


def grid_of(axes: tuple[str, ...]) -> sched.Grid:
  """The ranks of mesh axes: nodes by local where there are two."""
  if len(axes) == 2:
    return sched.Grid(lax.axis_size(axes[0]), lax.axis_size(axes[1]))
  return sched.Grid(lax.axis_size(axes))


def _add(a: jax.Array, b: jax.Array) -> jax.Array:
  """Rounds to the dtype, which XLA may leave out between two additions.

  A rank could go on with a more precise sum than the one it sends, and ranks
  could end with different bits.
  """
  total = a + b
  if jnp.issubdtype(total.dtype, jnp.floating) and total.dtype.itemsize < 4:
    info = jnp.finfo(total.dtype)
    # With fewer it would lose the smallest numbers of 8 bits, and the largest
    # where a format has them in place of infinities.
    exponent = max(info.nexp, 5)
    total = lax.reduce_precision(total, exponent, info.nmant)
  return total


def _run(x, *, collective, combine, axes, algorithm, chunks, native):
  if not x.size:  # nothing to send, and XLA refuses to gather it
    ranks = (grid_of(axes).size,) if collective == "all_gather" else ()
    shape = x.shape[1:] if collective == "reduce_scatter" else x.shape
    return jnp.zeros(ranks + shape, x.dtype)
  if algorithm == kernels.NVRAR_KERNEL:
    return kernels.all_reduce(x, axes)
  schedule = _schedule(collective, algorithm, grid_of(axes), chunks)
  return lowering.run(schedule, x, axes, combine, native=native)


def _same(x, *, axes, **_):
  """The result of an all-reduce no longer varies over its axes."""
  varying = x.mat.varying - frozenset(axes)
  return x.update(manual_axis_type=x.mat.update(varying=varying))


def _stacked(x, *, axes, **_):
  return x.update(shape=(grid_of(axes).size, *x.shape))


def _unstacked(x, **_):
  return x.update(shape=x.shape[1:])


def _transpose_sum(ct, x, **how):
  if x.aval.mat.varying & frozenset(how["axes"]):  # one cotangent for all
    return [_vary(ct, how["axes"])]
  return [_sum_p.bind(ct, **how)]


def _batch_stacked(values, dims, **how):
  return _gather_p.bind(*values, **how), dims[0] + 1


def _batch_unstacked(values, dims, **how):
  (x,) = values
  return _scatter_p.bind(jnp.moveaxis(x, dims[0], 1), **how), 0


def _primitive(name, collective, combine, abstract_eval) -> core.Primitive:
  primitive = core.Primitive(name)
  primitive.def_abstract_eval(abstract_eval)
  run = functools.partial(_run, collective=collective, combine=combine)
  own, native = (functools.partial(run, native=n) for n in (False, True))
  if combine is not _add:  # the vendor's reduce-scatter is a sum
    native = own
  primitive.def_impl(native)
  mlir.register_lowering(
    primitive, mlir.lower_fun(native, multiple_results=False)
  )
  # Within a node gloo's collectives take longer than permutations do.
  mlir.register_lowering(
    primitive, mlir.lower_fun(own, multiple_results=False), platform="cpu"
  )
  return primitive


_sum_p = _primitive("schedule_sum", "all_reduce", _add, _same)
_max_p = _primitive("schedule_max", "all_reduce", jnp.maximum, _same)
_gather_p = _primitive("schedule_all_gather", "all_gather", _add, _stacked)
_scatter_p = _primitive(
  "schedule_reduce_scatter", "reduce_scatter", _add, _unstacked
)
ad.deflinear2(_sum_p, _transpose_sum)
ad.deflinear2(_gather_p, lambda ct, _, **how: [_scatter_p.bind(ct, **how)])
ad.deflinear2(_scatter_p, lambda ct, _, **how: [_gather_p.bind(ct, **how)])
batching.defvectorized(_sum_p)
batching.defvectorized(_max_p)
batching.primitive_batchers[_gather_p] = _batch_stacked
batching.primitive_batchers[_scatter_p] = _batch_unstacked
