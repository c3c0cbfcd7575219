"""The one entry to the hierarchical all-reduce, whatever runs it."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, Shaped

from kernels_pallas import implementations
from kernels_pallas.hierarchical_all_reduce import (
  domain,
  mosaic_gpu,
  mosaic_gpu_ll,
  mosaic_gpu_multimem,
  reference,
  twin,
  words,
)
from kernels_pallas.hierarchical_all_reduce import plan as plans
from kernels_pallas.hierarchical_all_reduce.nvshmem import inter_node

Axes = tuple[str, ...]


def hierarchical_all_reduce(
  x: Shaped[Array, "..."],
  axes: Axes = ("node", "local"),
  *,
  across: str = "kernel",
  implementation: str | Sequence[str] | None = None,
) -> Shaped[Array, "..."]:
  r"""Sums over mesh axes; for use inside `shard_map`.

  Each of G local ranks adds up one part within its node, then over N nodes by
  recursive doubling, and hands it to its node: $\log_2 N$ steps of $M/G$ bytes
  between nodes. bfloat16 is added in float32 and rounded for each pair. All
  devices end with the same bits.

  Args:
    x: float32 or bfloat16, of any shape and length.
    axes: of nodes, any number, and of the local ranks of a node; or one axis,
      of the ranks of one node.
    across: who moves data between nodes: the kernel, with all nodes in one
      peer-to-peer domain, or XLA's collectives.
    implementation: a name of `IMPLEMENTATIONS`, or several in order of
      preference, the next taken where one does not support the arguments. By
      default on a GPU the kernel, else NVSHMEM between nodes if it was started
      for them, else XLA; elsewhere XLA; with a line in the log.

  Returns:
    The sum.

  Raises:
    ValueError: an unknown name, dtype or axis.
    UnsupportedError: no implementation of those named takes the arguments.

  Example:
    >>> from research import mesh
    >>> total = jax.shard_map(
    ...   hierarchical_all_reduce,
    ...   mesh=mesh.make_mesh({"node": 1, "local": 1}),
    ...   in_specs=jax.P(), out_specs=jax.P(), check_vma=False)
    >>> total(jnp.arange(3.0)).tolist()
    [0.0, 1.0, 2.0]

  References:
    NVRAR: arXiv 2511.09557.
  """
  _check(x, axes)
  if across not in ("kernel", "xla"):
    raise ValueError(f"across: got {across!r}, expected 'kernel' or 'xla'")
  return implementations.first(
    "hierarchical_all_reduce",
    IMPLEMENTATIONS,
    implementation,
    lambda run: run(x, axes, across),
    gpu=("mosaic_gpu", "nvshmem"),
  )


def start_low_latency(
  like: jax.ShapeDtypeStruct | jax.Array, axes: Axes = ("node", "local")
) -> mosaic_gpu_ll.State:
  """The state before the first `low_latency_all_reduce` of such an array.

  Args:
    like: what has its shape and dtype.
    axes: of nodes, and of the local ranks of a node.

  Returns:
    Each device's own state; to be called inside `shard_map`.
  """
  _check(like, axes)
  return mosaic_gpu_ll.start(_plan(axes), _layout(like, axes))


def low_latency_all_reduce(
  x: Shaped[Array, "..."],
  state: mosaic_gpu_ll.State,
  axes: Axes = ("node", "local"),
) -> tuple[Shaped[Array, "..."], mosaic_gpu_ll.State]:
  """Sums over mesh axes with the LL protocol; for calls in a loop.

  As `hierarchical_all_reduce` in every other respect. One state serves arrays
  of one shape, in the same order on all devices; donate it.

  Args:
    x: float32 or bfloat16.
    state: from `start_low_latency`, or from the call before.
    axes: of nodes, and of the local ranks of a node.

  Returns:
    The sum, and the state for the next call.

  Raises:
    ValueError: a dtype or axis that is not supported, or another array's state.
    UnsupportedError: the axes leave the peer-to-peer domain.
  """
  _check(x, axes)
  domain.check_mesh(axes)
  plan, layout = _plan(axes), _layout(x, axes)
  expected = jax.eval_shape(lambda: mosaic_gpu_ll.start(plan, layout))
  if (got := state.cells.shape) != expected.cells.shape:
    raise ValueError(
      f"state: got cells of shape {got}, expected {expected.cells.shape}; "
      f"start another for arrays of shape {x.shape}"
    )
  total, state = mosaic_gpu_ll.all_reduce(
    _divide(x, layout, plan.local),
    state,
    plan,
    axes,
    layout=layout,
    dtype=str(x.dtype),
  )
  return _join(total, x), state


def _reference(x: jax.Array, axes: Axes, across: str) -> jax.Array:
  del across
  parts = _divide(x, _layout(x, axes), lax.axis_size(axes[-1]))
  dtype = str(x.dtype)
  return _join(reference.all_reduce(parts, _plan(axes), axes, dtype=dtype), x)


def _twin(x: jax.Array, axes: Axes, across: str) -> jax.Array:
  del across
  parts = _divide(x, _layout(x, axes), lax.axis_size(axes[-1]))
  dtype = str(x.dtype)
  return _join(twin.all_reduce(parts, _plan(axes), axes, dtype=dtype), x)


def _xla(x: jax.Array, axes: Axes, across: str) -> jax.Array:
  del across
  return lax.psum(x, axes)


def _mosaic_gpu(x: jax.Array, axes: Axes, across: str) -> jax.Array:
  if across == "xla" and len(axes) == 2:
    return _composed(x, axes)
  domain.check_mesh(axes)
  layout = _layout(x, axes)
  parts = _divide(x, layout, lax.axis_size(axes[-1]))
  total = mosaic_gpu.all_reduce(
    parts, _plan(axes), axes, layout=layout, dtype=str(x.dtype)
  )
  return _join(total, x)


def _composed(x: jax.Array, axes: Axes) -> jax.Array:
  """The kernel within nodes, XLA between them."""
  node, local = axes
  domain.check_mesh((local,))
  layout, dtype = _layout(x, axes), str(x.dtype)

  def phase(parts, name):
    plan = plans.Plan(lax.axis_size(node), lax.axis_size(local), (name,))
    return mosaic_gpu.all_reduce(parts, plan, axes, layout=layout, dtype=dtype)

  scattered = phase(_divide(x, layout, lax.axis_size(local)), "scatter")
  own = lax.dynamic_index_in_dim(
    scattered, lax.axis_index(local), keepdims=False
  )
  numbers = jax.ShapeDtypeStruct((own.size * 4 // x.dtype.itemsize,), x.dtype)
  own = words.pack(lax.psum(words.unpack(own, numbers), node))
  own = jnp.broadcast_to(own, scattered.shape)
  return _join(phase(own, "gather"), x)


def _nvshmem(x: jax.Array, axes: Axes, across: str) -> jax.Array:
  """XLA within nodes, puts over the network between them, as in the paper."""
  del across
  if len(axes) != 2:
    raise implementations.UnsupportedError(
      f"NVSHMEM is for steps between nodes: got axes {axes}, expected a pair "
      "such as ('node', 'local')"
    )
  node, local = axes
  ranks = lax.axis_size(local)
  part = jax.ShapeDtypeStruct((max(1, -(-x.size // ranks)),), x.dtype)
  if reason := inter_node.refusal(part, node):
    raise implementations.UnsupportedError(reason)
  flat = jnp.pad(x.reshape(-1), (0, part.size * ranks - x.size))
  own = lax.psum_scatter(flat, local, tiled=True)
  own = inter_node.inter_node_all_reduce(own, node)
  total = lax.all_gather(own, local, tiled=True)
  return total[: x.size].reshape(x.shape)


def _low_latency(x: jax.Array, axes: Axes, across: str) -> jax.Array:
  """With a state of its own, which has to be cleared first."""
  if across == "xla":
    raise implementations.UnsupportedError(
      "LL is one kernel, between nodes too"
    )
  return low_latency_all_reduce(x, start_low_latency(x, axes), axes)[0]


def _multimem(x: jax.Array, axes: Axes, across: str) -> jax.Array:
  mesh = jax.sharding.get_abstract_mesh()
  if across == "xla" or set(axes) != set(mesh.axis_names):
    raise implementations.UnsupportedError(
      f"multimem reaches all of the mesh {mesh.axis_names} at once, expected "
      f'across="kernel" and a mesh of just {axes}'
    )
  domain.check_mesh(axes)
  ranks = lax.axis_size(axes)
  step = ranks * mosaic_gpu_multimem.tile(str(x.dtype))
  rest = max(step, -(-x.size // step) * step) - x.size
  parts = jnp.pad(x.reshape(-1), (0, rest))
  total = mosaic_gpu_multimem.all_reduce(parts.reshape(ranks, -1), axes)
  return total.reshape(-1)[: x.size].reshape(x.shape)


IMPLEMENTATIONS: dict[str, Callable[[jax.Array, Axes, str], jax.Array]] = {
  "mosaic_gpu": _mosaic_gpu,
  "mosaic_gpu_ll": _low_latency,
  "mosaic_gpu_multimem": _multimem,
  "nvshmem": _nvshmem,
  "reference": _reference,
  "twin": _twin,
  "xla": _xla,
}


def _check(x: jax.Array | jax.ShapeDtypeStruct, axes: Axes) -> None:
  """Raises on arguments that no implementation takes."""
  bound = set(jax.sharding.get_abstract_mesh().manual_axes)
  distinct = set(axes)
  if len(axes) not in (1, 2) or len(axes) != len(distinct) or distinct - bound:
    raise ValueError(
      f"axes: got {axes}, expected one, or a pair such as ('node', 'local'), "
      f"out of those of the shard_map around it {sorted(bound)}"
    )
  if str(x.dtype) not in words.DTYPES:
    raise ValueError(
      f"x: got {x.dtype}, expected one of {words.DTYPES}; cast it"
    )


def _plan(axes: Axes) -> plans.Plan:
  return plans.Plan(lax.axis_size(axes[:-1]), lax.axis_size(axes[-1]))


def _layout(
  x: jax.Array | jax.ShapeDtypeStruct, axes: Axes
) -> mosaic_gpu.Layout:
  count = -(-x.size * x.dtype.itemsize // 4)
  return mosaic_gpu.divide(count, lax.axis_size(axes[-1]))


def _divide(
  x: jax.Array, layout: mosaic_gpu.Layout, local: int
) -> Int32[Array, "local words"]:
  """Words by local rank, padded with zeros."""
  packed = words.pack(x.reshape(-1))
  packed = jnp.pad(packed, (0, layout.words * local - packed.size))
  return packed.reshape(local, layout.words)


def _join(parts: jax.Array, like: jax.Array) -> jax.Array:
  return words.unpack(
    parts.reshape(-1), jax.ShapeDtypeStruct(like.shape, like.dtype)
  )
