import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from research import mesh as mesh_lib

_RULES = mesh_lib.ShardingRules(
  {
    "mlp": ("node", "local"),
    "heads": ("node", "local"),
    "vocab": ("local",),
    "batch": ("data",),
  }
)
_MESH = jax.sharding.AbstractMesh((2, 2), ("node", "local"))


def test_divides_by_all_axes_of_a_rule():
  spec = _RULES.spec(("embed", "mlp"), (576, 1536), _MESH)
  assert spec == PartitionSpec(None, ("node", "local"))


def test_ignores_mesh_axes_that_are_absent():
  mesh = jax.sharding.AbstractMesh((2,), ("local",))
  assert _RULES.spec(("mlp", "embed"), (6, 5), mesh) == PartitionSpec(
    "local", None
  )
  assert _RULES.spec(("batch", None), (6, 5), mesh) == PartitionSpec(None, None)


def test_an_axis_of_size_one_divides_nothing():
  mesh = jax.sharding.AbstractMesh((1,), ("local",))
  assert _RULES.spec(("vocab",), (8,), mesh) == PartitionSpec(None)


@given(size=st.integers(1, 64))
def test_what_does_not_divide_stays_whole(size):
  spec = _RULES.spec(("heads",), (size,), _MESH)
  whole = size % 4 != 0
  assert spec == PartitionSpec(None if whole else ("node", "local"))


def test_one_mesh_axis_for_two_axes_is_refused():
  with pytest.raises(
    ValueError,
    match=r"axes \('heads', 'mlp'\) use a mesh axis twice: got .*; map at most "
    "one of them to each mesh axis",
  ):
    _RULES.spec(("heads", "mlp"), (8, 8), _MESH)


def test_no_collision_when_only_one_of_them_divides():
  spec = _RULES.spec(("heads", "mlp"), (9, 8), _MESH)
  assert spec == PartitionSpec(None, ("node", "local"))


def test_ranks_must_agree():
  with pytest.raises(
    ValueError,
    match=r"axes \('mlp',\) name 1 dimensions, got shape \(2, 3\); give one "
    r"name \(or None\) a dimension",
  ):
    _RULES.spec(("mlp",), (2, 3), _MESH)


def test_sharding_places_the_parts():
  mesh = mesh_lib.make_mesh({"node": 2, "local": 2})
  sharding = _RULES.sharding(("mlp", "embed"), (8, 3), mesh)
  array = jax.device_put(jnp.arange(24.0).reshape(8, 3), sharding)
  assert len(array.addressable_shards) == 4
  for index, shard in enumerate(array.addressable_shards):
    assert shard.data.shape == (2, 3)
    assert float(shard.data[0, 0]) == 6.0 * index
