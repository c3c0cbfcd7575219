"""Arrays of which every rank keeps its part, as in FSDP and ZeRO-3.

A tree becomes one vector a bucket of a plan, padded and cut into as many equal
parts as there are ranks. `gather` puts the tree together inside `shard_map`,
and its derivative is the reduce-scatter of the gradients.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from collectives import api, buckets

Shards = tuple[jax.Array, ...]


def shard(
  tree: Any, plan: buckets.Plan, mesh: jax.sharding.Mesh, axes: api.Axes
) -> Shards:
  """Cuts a tree into parts, one a rank of the mesh axes.

  Outside `shard_map`; under `jit` too, where no device need hold the whole.

  Args:
    tree: arrays as planned.
    plan: `buckets.plan` of the tree; one collective a bucket will gather it.
    mesh: where the parts go.
    axes: mesh axes whose ranks, in row-major order, take parts 0, 1, ...

  Returns:
    One vector a bucket, `[ranks * part]`, divided over `axes`; in `shard_map`
    its spec is `PartitionSpec(axes)`. What pads its end is zero.

  Raises:
    ValueError: a tree that was not planned so.

  Example:
    >>> from research import mesh
    >>> one = mesh.make_mesh({"data": 1})
    >>> tree = {"w": jnp.ones((2, 3))}
    >>> plan = buckets.plan(tree)
    >>> parts = shard(tree, plan, one, "data")
    >>> gathered = jax.shard_map(
    ...   lambda parts: gather(parts, plan, "data"), mesh=one,
    ...   in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"))
    >>> gathered(parts)["w"].shape
    (2, 3)

  References:
    Rajbhandari et al., ZeRO, arXiv 1910.02054, section 5.3; Zhao et al.,
    PyTorch FSDP, arXiv 2304.11277.
  """
  axes = (axes,) if isinstance(axes, str) else tuple(axes)
  ranks = math.prod(mesh.shape[axis] for axis in axes)
  where = NamedSharding(mesh, PartitionSpec(axes))
  placed = jax.device_put(_flatten(tree, plan, ranks), where)
  # Under `jit` placing is only a hint, and this is not.
  return jax.lax.with_sharding_constraint(placed, where)


def unshard(shards: Sequence[jax.Array], plan: buckets.Plan) -> Any:
  """Puts a tree together outside `shard_map`, for a checkpoint or a look."""
  return _unflatten(tuple(shards), plan)


def gather(
  shards: Sequence[jax.Array],
  plan: buckets.Plan,
  axes: api.Axes,
  *,
  algorithm: str = "xla",
  chunks: int = 1,
) -> Any:
  """Gathers a tree from the parts of all ranks, inside `shard_map`.

  Its derivative sums over ranks and scatters, by the same algorithm: each rank
  gets its part of the gradient of the sum of all ranks' losses. For the mean,
  divide the loss. Inside `jax.checkpoint` the backward pass gathers again, and
  the whole tree is not kept between the passes.

  Args:
    shards: this rank's parts, one vector a bucket.
    plan: what `shard` was given.
    axes: what `shard` was given.
    algorithm: of the all-gather; one that also has a reduce-scatter.
    chunks: pieces of each bucket that follow one another.

  Returns:
    The tree, without padding.

  Raises:
    ValueError: what `collectives.all_gather` refuses.
  """
  vectors = api.all_gather(
    tuple(shards), axes, tiled=True, algorithm=algorithm, chunks=chunks
  )
  return _unflatten(vectors, plan)


def reduce_scatter(
  tree: Any,
  plan: buckets.Plan,
  axes: api.Axes,
  *,
  algorithm: str = "xla",
  accumulate: DTypeLike | None = None,
  chunks: int = 1,
) -> Shards:
  """Sums trees over ranks, of which each keeps its part, inside `shard_map`.

  What the derivative of `gather` does, for gradients made otherwise (ZeRO-2).

  Args:
    tree: this rank's arrays, as planned.
    plan: what `shard` was given.
    axes: what `shard` was given.
    algorithm: of the reduce-scatter.
    accumulate: dtype in which it sends and adds.
    chunks: pieces of each bucket that follow one another.

  Returns:
    This rank's part of each bucket.

  Raises:
    ValueError: a tree that was not planned so, or what
      `collectives.reduce_scatter` refuses.
  """
  ranks = jax.lax.axis_size(axes)
  return api.reduce_scatter(
    _flatten(tree, plan, ranks),
    axes,
    tiled=True,
    algorithm=algorithm,
    accumulate=accumulate,
    chunks=chunks,
  )


@functools.partial(jax.jit, static_argnames=("plan", "ranks"))
def _flatten(tree: Any, plan: buckets.Plan, ranks: int) -> Shards:
  """One vector a bucket, padded so that ranks divide it."""
  return tuple(
    jnp.pad(vector, (0, -vector.size % ranks)) for vector in plan.pack(tree)
  )


@functools.partial(jax.jit, static_argnames="plan")
def _unflatten(vectors: Shards, plan: buckets.Plan) -> Any:
  """Undoes `_flatten`, dropping the padding."""
  return plan.unpack(
    [
      vector[: bucket.size]
      for vector, bucket in zip(vectors, plan.buckets, strict=True)
    ]
  )
