"""Parts on ranks: order, padding, memory and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from collectives import buckets, sharded
from research import mesh
from tests.collectives import cases

# 7 + 6 + 1 elements in float32, in buckets of 8 and 6, and 5 integers: nothing
# here is a multiple of 3, 4 or 8 ranks.
_TREE = {
  "a": np.arange(6, dtype=np.float32).reshape(2, 3),
  "b": np.arange(10, 17, dtype=np.float32),
  "c": np.float32(20),
  "d": np.arange(30, 35, dtype=np.int32),
}
_PLAN = buckets.plan(_TREE, max_bytes=32)

_LAYOUTS = [
  ((3,), ("node",), ["xla", "ring", "bruck", "recursive"]),
  ((2, 2), ("node", "local"), ["xla", "pccl_ring", "pccl_recursive"]),
  ((2, 4), ("local", "node"), ["pccl_recursive", "bruck"]),
]


def _same(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("sizes", "axes", "names"), _LAYOUTS)
def test_trap_05_a_tree_comes_back_in_order(sizes, axes, names):
  grid = cases.mesh_of(*sizes)
  parts = sharded.shard(_TREE, _PLAN, grid, axes)
  _same(sharded.unshard(parts, _PLAN), _TREE)
  gathered = jax.jit(
    jax.shard_map(
      lambda parts: [
        sharded.gather(parts, _PLAN, axes, algorithm=name, chunks=2)
        for name in names
      ],
      mesh=grid,
      in_specs=PartitionSpec(axes),
      out_specs=PartitionSpec(),
      check_vma=False,  # it cannot see that all ranks gather the same
    )
  )(parts)
  for tree in gathered:
    _same(tree, _TREE)


@pytest.mark.parametrize(("sizes", "axes", "names"), _LAYOUTS)
def test_trap_05_gradients_are_scattered_to_the_ranks_that_gather_them(
  sizes, axes, names
):
  """Rank- and index-dependent gradients; each part is at its own place."""
  grid = cases.mesh_of(*sizes)
  ranks = grid.size

  def scatter(weight):
    tree = jax.tree.map(lambda leaf: leaf * weight[0].astype(leaf.dtype), _TREE)
    return [
      sharded.reduce_scatter(tree, _PLAN, axes, algorithm=name)
      for name in names
    ]

  done = jax.jit(
    jax.shard_map(
      scatter,
      mesh=grid,
      in_specs=PartitionSpec(axes),
      out_specs=PartitionSpec(axes),
    )
  )(np.arange(1, ranks + 1, dtype=np.int32))
  total = jax.tree.map(
    lambda leaf: leaf * leaf.dtype.type(ranks * (ranks + 1) // 2), _TREE
  )
  for parts in done:
    _same(sharded.unshard(parts, _PLAN), total)


def test_a_rank_keeps_its_part_and_padding_is_zero():
  grid = cases.mesh_of(4)
  parts = sharded.shard(_TREE, _PLAN, grid, "node")
  for part, bucket in zip(parts, _PLAN.buckets, strict=True):
    sizes = {shard.data.size for shard in part.addressable_shards}
    assert sizes == {-(-bucket.size // 4)}
    assert not np.asarray(part)[bucket.size :].any()


def test_sharded_where_they_are_made():
  grid = cases.mesh_of(2, 2)
  make = jax.jit(lambda: sharded.shard(_TREE, _PLAN, grid, ("node", "local")))
  for part in make():
    assert part.sharding.spec == PartitionSpec(("node", "local"))
  _same(sharded.unshard(make(), _PLAN), _TREE)


@pytest.mark.parametrize(
  ("sizes", "algorithm"),
  [((3,), "xla"), ((3,), "bruck"), ((2, 2), "pccl_ring")],
)
@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("again", [False, True])
def test_trap_13_gradients_are_those_of_one_device(
  sizes, algorithm, check_vma, again
):
  """Of the sum of the losses of ranks that hold different rows."""
  tree = {name: _TREE[name] for name in "abc"}
  plan = buckets.plan(tree, max_bytes=32)
  grid = mesh.make_mesh(dict(zip(("node", "local"), sizes, strict=False)))
  axes = grid.axis_names
  rows = cases.different(sizes, 7).astype(np.float32)

  def loss(tree, row):
    return (jnp.sin(tree["a"] * row[:6].reshape(2, 3)).sum() + tree["c"]) * (
      tree["b"] @ row
    )

  def slope(parts, row):
    def own(parts):
      return loss(
        sharded.gather(parts, plan, axes, algorithm=algorithm), row[0]
      )

    return jax.grad(jax.checkpoint(own) if again else own)(parts)

  spec = PartitionSpec(axes)
  parts = jax.jit(
    jax.shard_map(
      slope,
      mesh=grid,
      in_specs=(spec, spec),
      out_specs=spec,
      check_vma=check_vma,
    )
  )(sharded.shard(tree, plan, grid, axes), rows)
  want = jax.grad(lambda tree: sum(loss(tree, row) for row in rows))(
    jax.tree.map(jnp.asarray, tree)
  )
  got = sharded.unshard(parts, plan)
  for name, value in want.items():
    np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-2)
  for part, bucket in zip(parts, plan.buckets, strict=True):
    assert not np.asarray(part)[bucket.size :].any()
