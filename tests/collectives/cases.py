"""What the tests of collectives share: meshes of a few of the 8 devices."""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import PartitionSpec

from research import mesh


def mesh_of(*sizes: int) -> jax.sharding.Mesh:
  """A mesh over `node`, or over `(node, local)`."""
  return mesh.make_mesh(dict(zip(("node", "local"), sizes, strict=False)))


def per_rank(
  function: Callable, *sizes: int, check_vma: bool = True, out: str = "ranks"
) -> jax.stages.Wrapped:
  """Maps `[ranks, ...]` to the results of `function(x, axes)` on each rank.

  Args:
    function: takes one rank's array or tree, without the axis of ranks.
    *sizes: of the mesh.
    check_vma: as for `shard_map`.
    out: `"ranks"` stacks what ranks return, `"same"` says that it is the same.
  """
  grid = mesh_of(*sizes)
  axes = grid.axis_names
  stack = out == "ranks"

  def body(x):
    done = function(jax.tree.map(lambda y: y[0], x), axes)
    return jax.tree.map(lambda y: y[None], done) if stack else done

  return jax.jit(
    jax.shard_map(
      body,
      mesh=grid,
      in_specs=PartitionSpec(axes),
      out_specs=PartitionSpec(axes) if stack else PartitionSpec(),
      check_vma=check_vma,
    )
  )


def different(sizes: tuple[int, ...], *shape: int) -> np.ndarray:
  """Integers for each rank, `[ranks, *shape]`, no two of them alike."""
  count = math.prod(sizes) * math.prod(shape)
  shuffled = np.random.default_rng(0).permutation(count).astype(np.int32)
  return shuffled.reshape(math.prod(sizes), *shape)
