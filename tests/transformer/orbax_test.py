"""Orbax folders: typed configuration and weights, onto other devices too."""

import dataclasses
import json
import shutil

import chex
import jax
import numpy as np
import pytest

from research import mesh as mesh_lib
from research.transformer import checkpoints, rope
from research.transformer.checkpoints import model, orbax


@pytest.fixture(scope="module")
def saved(load_recorded, tmp_path_factory):
  source = load_recorded("llama3").model
  folder = tmp_path_factory.mktemp("orbax") / "model"
  orbax.save(source, folder)
  return source, folder


def _split(mesh_size: int) -> tuple[jax.sharding.Mesh, mesh_lib.ShardingRules]:
  return mesh_lib.make_mesh({"local": mesh_size}), model.TENSOR_PARALLEL


def test_round_trip_is_bit_equal(recorded, tmp_path):
  orbax.save(recorded.model, tmp_path / "new" / "model")
  again = orbax.load(tmp_path / "new" / "model")
  assert again.config == recorded.model.config
  assert again.graphdef == recorded.model.graphdef
  chex.assert_trees_all_equal(again.state, recorded.model.state, strict=True)


def test_bfloat16_round_trip(load_recorded, tmp_path):
  config = dataclasses.replace(
    load_recorded("qwen3").model.config, dtype="bfloat16"
  )
  source = model.initialise(config, seed=0)
  orbax.save(source, tmp_path / "model")
  again = orbax.load(tmp_path / "model")
  assert {leaf.dtype.name for leaf in jax.tree.leaves(again.state)} == {
    "bfloat16"
  }
  chex.assert_trees_all_equal(again.state, source.state, strict=True)


@pytest.mark.parametrize(
  "scaling",
  [
    None,
    rope.Llama3Scaling(
      factor=32.0,
      low_freq_factor=1.0,
      high_freq_factor=4.0,
      original_context=8192,
    ),
    rope.DivisorScaling((1.0, 1.5, 3.0, 8.0, 8.0, 8.0, 8.0, 8.0)),
  ],
)
def test_config_round_trip_through_json(load_recorded, scaling):
  config = dataclasses.replace(
    load_recorded("llama3").model.config, rope_scaling=scaling
  )
  text = json.dumps(orbax.write_config(config))
  again = orbax.read_config(json.loads(text))
  assert again == config
  assert hash(again) == hash(config)


def test_from_one_device_to_two_and_back(saved, tmp_path):
  source, folder = saved
  mesh, rules = _split(2)
  split = orbax.load(folder, mesh=mesh, rules=rules)
  chex.assert_trees_all_equal(split.state, source.state)
  gate = split.bind(split.state).blocks[0].mlp.gate_up[...]
  expected = jax.sharding.PartitionSpec("local", None, None)
  assert gate.sharding == jax.sharding.NamedSharding(mesh, expected)
  assert gate.addressable_shards[0].data.shape == (40, 2, 64)
  sharded = source.shard(mesh, rules)
  for found, wanted in zip(
    jax.tree.leaves(split.state), jax.tree.leaves(sharded.state), strict=True
  ):
    assert found.sharding == wanted.sharding

  orbax.save(split, tmp_path / "from_two")
  back = orbax.load(tmp_path / "from_two")
  chex.assert_trees_all_equal(back.state, source.state)
  assert all(len(x.devices()) == 1 for x in jax.tree.leaves(back.state))


def test_a_mesh_without_rules_keeps_weights_whole(saved):
  source, folder = saved
  mesh, _ = _split(2)
  whole = orbax.load(folder, mesh=mesh)
  for leaf in jax.tree.leaves(whole.state):
    assert leaf.sharding.is_fully_replicated
    assert leaf.devices() == set(mesh.devices.flat)
  chex.assert_trees_all_equal(whole.state, source.state)


def test_saving_again_replaces(saved, tmp_path):
  source, _ = saved
  other = model.initialise(source.config, seed=1)
  orbax.save(source, tmp_path / "model")
  orbax.save(other, tmp_path / "model")
  again = orbax.load(tmp_path / "model")
  chex.assert_trees_all_equal(again.state, other.state)


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"nowhere holds no orbax checkpoint of a decoder; expected a folder",
  ):
    orbax.load(tmp_path / "nowhere")


def test_an_empty_folder_is_named(tmp_path):
  with pytest.raises(
    checkpoints.CheckpointError, match="holds no orbax checkpoint of a decoder"
  ):
    orbax.load(tmp_path)


# Truncated array data gives the same message, but Orbax 0.12.8 then leaves its
# other reads un-awaited, and their warnings would land in some later test.
def test_truncated_weights_are_named(saved, tmp_path):
  folder = shutil.copytree(saved[1], tmp_path / "model")
  file = folder / "weights" / "_METADATA"
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  with pytest.raises(
    checkpoints.CheckpointError, match="is corrupt or incomplete: .*; save it"
  ) as error:
    orbax.load(folder)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    ({"mlp_dim": None}, "mlp_dim"),
    ({"surprise": 1}, "surprise"),
    ({"num_heads": 3}, "num_heads must be a multiple of num_kv_heads"),
    ({"rope_scaling": {"kind": "Yarn"}}, "Yarn"),
  ],
)
def test_foreign_configs_are_named(saved, change, reason):
  values = orbax.write_config(saved[0].config) | change
  values = {k: v for k, v in values.items() if v is not None or "rope" in k}
  with pytest.raises(
    checkpoints.CheckpointError,
    match=f"configuration is not a decoder's: got .*{reason}.*, expected the "
    "fields of DecoderConfig",
  ):
    orbax.read_config(values)


def test_loaded_models_compute_the_same(saved, load_recorded, runner):
  golden = load_recorded("llama3")
  mesh, rules = _split(2)
  split = orbax.load(saved[1], mesh=mesh, rules=rules)
  logits = runner.logits(split, golden.tokens)
  assert np.abs(logits - golden.logits).max() <= 1e-4
