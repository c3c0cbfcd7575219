"""All-reduce by the switch: each device has it add up and hand out a part.

NVLink's multicast memory takes the place of both phases within a node: one
instruction loads the sum over all devices, another stores to all of them. JAX
0.10.2 has it for the whole mesh only, nodes of a domain included, and then
there is no step between nodes left.
"""

import jax
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Shaped

from kernels_pallas.hierarchical_all_reduce import mosaic_gpu

_BYTES = 16  # that a thread moves at once


def tile(dtype: str) -> int:
  """Numbers that a block moves at once."""
  return 128 * _BYTES // jax.numpy.dtype(dtype).itemsize


def all_reduce(
  parts: Shaped[Array, "ranks numbers"], axes: tuple[str, ...]
) -> Shaped[Array, "ranks numbers"]:
  """Sums over all axes of the mesh; for use inside `shard_map`.

  The switch decides how bfloat16 is rounded: the order and the width of its
  sums are not ours.

  Args:
    parts: the input, a part for each rank; a multiple of `tile` numbers.
    axes: all axes of the mesh.

  Returns:
    The sum.
  """
  size = tile(str(parts.dtype))
  ranks, numbers = parts.shape
  blocks = min(mosaic_gpu.MOST_BLOCKS, numbers // size)
  spread = plgpu.Layout.WG_STRIDED((size,), vec_size=size // 128)

  def kernel(x_ref, total_ref, done):
    own = lax.axis_index(axes)

    @plgpu.nd_loop((numbers // size,), collective_axes="block")
    def _move(loop):
      where = pl.ds(loop.index[0] * size, size)
      added = plgpu.multimem_load_reduce(
        x_ref.at[own, where], collective_axes=axes, reduction_op="add"
      )
      added = plgpu.layout_cast(added, spread)
      plgpu.multimem_store(added, total_ref.at[own, where], axes)

    plgpu.semaphore_signal_multicast(done, collective_axes=axes)
    pl.semaphore_wait(done, ranks, decrement=False)

  return plgpu.kernel(
    kernel,
    out_type=jax.ShapeDtypeStruct(parts.shape, parts.dtype),
    scratch_types=[plgpu.SemaphoreType.REGULAR],
    grid=(blocks,),
    grid_names=("block",),
  )(parts)
