"""Checkpoints of Hugging Face transformers: in, out, and the same logits.

The checkpoints and their logits were written by transformers itself
(`python -m experiments.tools.record_goldens`).
"""

import dataclasses
import json
import pathlib
import shutil

import chex
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from experiments.tools import rivals
from research.transformer import checkpoints, rope
from research.transformer.checkpoints import hugging_face, model

_TOLERANCE = 1e-4


def _tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
  found = {}
  for file in folder.glob("*.safetensors"):
    found |= safetensors.numpy.load_file(file)
  return found


def _copy(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  return shutil.copytree(source, folder, dirs_exist_ok=True)


def _assert_same_model(
  found: checkpoints.Model, expected: checkpoints.Model
) -> None:
  assert found.config == expected.config
  chex.assert_trees_all_equal(found.state, expected.state, strict=True)


def _assert_close(found, expected) -> None:
  error = float(np.abs(np.asarray(found) - expected).max())
  print(f"max_logit_error: {error}")
  assert error <= _TOLERANCE


def test_whole_rows_agree(recorded, runner):
  logits = runner.logits(recorded.model, recorded.tokens)
  _assert_close(logits, recorded.logits)


def test_prefill_then_single_tokens_agree(recorded, runner, empty_pool):
  model, tokens = recorded.model, jnp.asarray(recorded.tokens)
  table, pool = empty_pool(model, batch=2, tokens=24, page_size=8)
  weights = model.graphdef, model.state
  logits, pool = runner.prefill(*weights, tokens[:, :10], table, pool)
  found = [logits]
  for step in range(10, 24):
    positions = jnp.full((2, 1), step)
    logits, pool = runner.decode(
      *weights, tokens[:, step : step + 1], positions, table, pool
    )
    found.append(logits)
  _assert_close(jnp.concatenate(found, axis=1), recorded.logits)


def test_chunks_across_page_borders_agree(recorded, runner, empty_pool):
  model, tokens = recorded.model, jnp.asarray(recorded.tokens)
  table, pool = empty_pool(model, batch=2, tokens=24, page_size=8)
  found = []
  for start in range(0, 24, 6):
    positions = jnp.tile(jnp.arange(start, start + 6), (2, 1))
    logits, pool = runner.decode(
      model.graphdef,
      model.state,
      tokens[:, start : start + 6],
      positions,
      table,
      pool,
    )
    found.append(logits)
  _assert_close(jnp.concatenate(found, axis=1), recorded.logits)


def test_ragged_rows_agree(recorded, runner, empty_pool):
  model, tokens = recorded.model, recorded.tokens
  table, pool = empty_pool(model, batch=2, tokens=24, page_size=8)
  weights, lengths = (model.graphdef, model.state), np.array([3, 9])
  padded = np.where(np.arange(10)[None] < lengths[:, None], tokens[:, :10], 95)
  logits, pool = runner.prefill(*weights, jnp.asarray(padded), table, pool)
  found, expected = [], []
  for row, length in enumerate(lengths):
    found.append(logits[row, :length])
    expected.append(recorded.logits[row, :length])
  for step in range(15):
    at = lengths + step
    logits, pool = runner.decode(
      *weights,
      jnp.asarray(tokens[[0, 1], at][:, None]),
      jnp.asarray(at[:, None]),
      table,
      pool,
    )
    found.append(logits[:, 0])
    expected.append(recorded.logits[[0, 1], at])
  _assert_close(np.concatenate(found), np.concatenate(expected))


def test_recorded_logits_depend_on_biases_and_norms(recorded, runner):
  # The agreement above says little about a parameter that does nothing.
  for path, variable in model.parameters(recorded.model.state):
    if variable.ndim > 1 and path[-1] != "bias" or path == ("norm", "scale"):
      continue
    values = np.asarray(variable[...])
    assert np.abs(values - values.flat[0]).max() > 0.1, path


def test_reads_a_sharded_index(load_recorded):
  folder = load_recorded("qwen2_untied").folder
  assert not (folder / "model.safetensors").exists()
  assert len(list(folder.glob("model-*-of-00003.safetensors"))) == 3


@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 60_000])
def test_export_is_bit_equal(recorded, tmp_path, shard_bytes):
  hugging_face.save(recorded.model, tmp_path, shard_bytes=shard_bytes)
  _assert_same_model(hugging_face.load(tmp_path), recorded.model)
  assert _tensors(tmp_path).keys() == _tensors(recorded.folder).keys()
  for name, values in _tensors(recorded.folder).items():
    np.testing.assert_array_equal(_tensors(tmp_path)[name], values)


def test_export_respects_shard_bytes(load_recorded, tmp_path):
  hugging_face.save(load_recorded("llama3").model, tmp_path, shard_bytes=60_000)
  files = sorted(tmp_path.glob("*.safetensors"))
  assert len(files) > 3
  for file in files:
    tensors = safetensors.numpy.load_file(file)
    assert sum(t.nbytes for t in tensors.values()) <= 60_000
  index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
  total = sum(t.nbytes for t in _tensors(tmp_path).values())
  assert index["metadata"]["total_size"] == total


def test_exports_bfloat16(load_recorded, tmp_path):
  half = hugging_face.load(load_recorded("llama3").folder, dtype="bfloat16")
  hugging_face.save(half, tmp_path)
  again = hugging_face.load(tmp_path, dtype="bfloat16")
  assert again.config.dtype == "bfloat16"
  _assert_same_model(again, half)


def test_config_round_trip(recorded):
  written = hugging_face.write_config(recorded.model.config)
  again = hugging_face.read_config(written, dtype="float32")
  assert again == recorded.model.config


def test_reads_the_older_form_of_rope_scaling(load_recorded):
  values = load_recorded("llama3").hf_config
  fields = values.pop("rope_parameters")
  values["rope_theta"] = fields.pop("rope_theta")
  values["rope_scaling"] = {"type": fields.pop("rope_type"), **fields}
  config = hugging_face.read_config(values, dtype="float32")
  assert config == load_recorded("llama3").model.config
  assert config.rope_scaling == rope.Llama3Scaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=32
  )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      {"model_type": "gpt2"},
      "unsupported architecture: got 'gpt2', expected one of llama, qwen2, "
      "qwen3",
    ),
    (
      {"use_sliding_window": True},
      "unsupported option: got use_sliding_window=true",
    ),
    ({"attention_bias": True}, "unsupported option: got attention_bias=true"),
    (
      {"hidden_act": "gelu"},
      "unsupported option: got hidden_act='gelu', expected 'silu'",
    ),
    (
      {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
      "unsupported rope scaling: got 'yarn', expected 'default' or 'llama3'",
    ),
    (
      {"rms_norm_eps": None},
      "config.json: rms_norm_eps is missing",
    ),
  ],
)
def test_unsupported_configs_are_named(load_recorded, change, message):
  values = load_recorded("llama3").hf_config | change
  values = {k: v for k, v in values.items() if v is not None}
  with pytest.raises(checkpoints.CheckpointError) as error:
    hugging_face.read_config(values, dtype="float32")
  assert str(error.value).startswith(message)


def test_gguf_divisors_cannot_be_exported(load_recorded, tmp_path):
  source = load_recorded("llama3").model
  scaling = rope.DivisorScaling((1.0,) * 8)
  config = dataclasses.replace(source.config, rope_scaling=scaling)
  scaled = dataclasses.replace(source, config=config)
  with pytest.raises(
    checkpoints.CheckpointError, match="have no place in a config.json"
  ):
    hugging_face.save(scaled, tmp_path / "new")
  assert not (tmp_path / "new").exists()


def test_missing_files_are_named(load_recorded, tmp_path):
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"config\.json is missing; give a folder with config\.json and",
  ):
    hugging_face.load(tmp_path)
  shutil.copy(load_recorded("llama3").folder / "config.json", tmp_path)
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"has neither model\.safetensors nor model\.safetensors\.index\.json",
  ):
    hugging_face.load(tmp_path)


def test_a_missing_shard_is_named(load_recorded, tmp_path):
  folder = _copy(load_recorded("qwen2_untied").folder, tmp_path)
  (folder / "model-00002-of-00003.safetensors").unlink()
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"model-00002-of-00003\.safetensors is missing",
  ):
    hugging_face.load(folder)


def test_a_truncated_file_is_named(load_recorded, tmp_path):
  folder = _copy(load_recorded("llama3").folder, tmp_path)
  file = folder / "model.safetensors"
  file.write_bytes(file.read_bytes()[:-1000])
  with pytest.raises(
    checkpoints.CheckpointError, match=r"model\.safetensors is no intact"
  ):
    hugging_face.load(folder)


def test_a_corrupt_config_is_named(load_recorded, tmp_path):
  folder = _copy(load_recorded("llama3").folder, tmp_path)
  (folder / "config.json").write_text('{"model_type": ')
  with pytest.raises(
    checkpoints.CheckpointError, match=r"config\.json is no intact JSON"
  ):
    hugging_face.load(folder)


def test_a_missing_tensor_is_named(load_recorded, tmp_path):
  folder = _copy(load_recorded("llama3").folder, tmp_path)
  tensors = _tensors(folder)
  del tensors["model.layers.1.mlp.up_proj.weight"]
  safetensors.numpy.save_file(tensors, folder / "model.safetensors")
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"tensor model\.layers\.1\.mlp\.up_proj\.weight is missing; the "
    "checkpoint is incomplete",
  ):
    hugging_face.load(folder)


def test_a_wrong_shape_is_named(load_recorded, tmp_path):
  folder = _copy(load_recorded("llama3").folder, tmp_path)
  tensors = _tensors(folder)
  tensors["model.layers.0.mlp.gate_proj.weight"] = np.zeros((81, 64), "f4")
  safetensors.numpy.save_file(tensors, folder / "model.safetensors")
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"tensor model\.layers\.0\.mlp\.gate_proj\.weight: got shape "
    r"\(81, 64\), expected "
    r"\(80, 64\); the checkpoint's configuration and its weights disagree",
  ):
    hugging_face.load(folder)


@pytest.fixture(scope="module")
def transformers():
  with rivals.worker("transformers") as worker:
    yield worker


@pytest.mark.peers
@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 60_000])
def test_transformers_loads_exports(
  recorded, transformers, tmp_path, shard_bytes
):
  hugging_face.save(recorded.model, tmp_path, shard_bytes=shard_bytes)
  transformers.call({"op": "load", "folder": str(tmp_path), "threads": 1})
  tokens = recorded.tokens.tolist()
  answer = transformers.call({"op": "score", "tokens": tokens}).values
  found = np.array(answer["logits"], np.float32)
  np.testing.assert_allclose(found, recorded.logits, atol=1e-6, rtol=0)
