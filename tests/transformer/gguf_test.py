"""Decoders from GGUF files, against llama.cpp and transformers.

What llama.cpp answers to real text was recorded by
`python -m experiments.tools.record_goldens`.
"""

import pathlib
from typing import Any, NamedTuple

import gguf as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from research.data import gguf as gguf_data
from research.transformer import checkpoints, rope
from research.transformer.checkpoints import gguf


class Scores(NamedTuple):
  argmax: np.ndarray
  nll: np.ndarray


def _score(graphdef, state, tokens):
  decoder = nnx.merge(graphdef, state)
  logits = decoder.logits(decoder(tokens).hidden)
  chances = jax.nn.log_softmax(logits[:, :-1], axis=-1)
  chosen = jnp.take_along_axis(chances, tokens[:, 1:, None], axis=-1)
  return logits.argmax(axis=-1), -chosen[..., 0]


@pytest.fixture(scope="module")
def scores(smollm2, smollm2_golden) -> Scores:
  score = jax.jit(_score, static_argnums=0)
  rows = [
    score(smollm2.graphdef, smollm2.state, jnp.asarray(row[None]))
    for row in smollm2_golden["tokens"]
  ]
  argmax, nll = (np.concatenate(column) for column in zip(*rows, strict=True))
  return Scores(argmax, nll)


def test_smollm2_config(smollm2):
  config = smollm2.config
  assert config.architecture == "llama"
  assert (config.num_layers, config.embed_dim) == (30, 576)
  assert (config.num_heads, config.num_kv_heads, config.head_dim) == (9, 3, 64)
  assert config.tie_embeddings
  assert config.num_parameters == 134_515_008
  assert smollm2.num_bytes == 4 * config.num_parameters


def test_smollm2_agrees_with_llama_cpp_in_float32(scores, smollm2_golden):
  same = scores.argmax == smollm2_golden["f32_argmax"]
  difference = scores.nll - smollm2_golden["f32_nll"]
  print(f"positions: {same.size}")
  print(f"argmax_agreement: {same.mean()}")
  print(f"mean_abs_nll_difference: {np.abs(difference).mean()}")
  assert same.size >= 1_000
  assert same.mean() >= 0.998
  assert abs(difference.mean()) < 1e-4
  assert np.abs(difference).mean() < 2e-3  # its cache is in float16


def test_smollm2_nll_is_that_of_its_quantised_file(scores, smollm2_golden):
  # llama.cpp also rounds activations to 8 bits there: argmaxes differ.
  same = scores.argmax == smollm2_golden["q4_1_argmax"]
  difference = scores.nll.mean() - smollm2_golden["q4_1_nll"].mean()
  print(f"argmax_agreement: {same.mean()}")
  print(f"mean_nll_difference: {difference}")
  assert abs(difference) < 0.02


def test_smollm2_reads_text_better_than_chance(scores):
  # A golden of nonsense would agree with nonsense.
  assert scores.nll.mean() < 3.5 < np.log(49_152)


def _write(path: pathlib.Path, source: Any, **changes: Any) -> pathlib.Path:
  """Writes a recorded checkpoint the way llama.cpp's converter does."""
  config = source.hf_config
  kind = changes.get("architecture", config["model_type"])
  writer = oracle.GGUFWriter(path, kind)
  if "context_length" not in changes.get("without", ()):
    writer.add_context_length(config["max_position_embeddings"])
  writer.add_embedding_length(config["hidden_size"])
  writer.add_block_count(config["num_hidden_layers"])
  writer.add_feed_forward_length(config["intermediate_size"])
  writer.add_head_count(config["num_attention_heads"])
  writer.add_head_count_kv(config["num_key_value_heads"])
  writer.add_key_length(source.model.config.head_dim)
  writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
  writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
  if "scaling" in changes:
    writer.add_rope_scaling_type(changes["scaling"])
  for name, tensor in _converted(source).items():
    if name not in changes.get("without", ()):
      writer.add_tensor(name, changes.get("tensors", {}).get(name, tensor))
  for name, (raw, kind) in changes.get("raw", {}).items():
    writer.add_tensor(name, raw, raw_dtype=kind)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def _converted(source: Any) -> dict[str, np.ndarray]:
  config, stored = source.hf_config, {}
  for file in source.folder.glob("*.safetensors"):
    stored |= safetensors.numpy.load_file(file)
  llama = config["model_type"] == "llama"
  architecture = {v: k for k, v in oracle.MODEL_ARCH_NAMES.items()}
  names = oracle.get_tensor_name_map(architecture[config["model_type"]], 2)
  converted = {}
  for name, tensor in stored.items():
    if llama and ("q_proj" in name or "k_proj" in name):
      heads = tensor.shape[0] // 16
      pairs = tensor.reshape(heads, 2, 8, -1)
      tensor = pairs.swapaxes(1, 2).reshape(tensor.shape)
    target = names.get_name(name, try_suffixes=(".weight", ".bias"))
    assert target is not None
    converted[target] = np.ascontiguousarray(tensor)
  if llama:
    plain = 10_000.0 ** (-np.arange(0, 16, 2) / 16)
    divisors = plain / source.inverse_frequencies
    converted["rope_freqs.weight"] = divisors.astype(np.float32)
  return converted


@pytest.mark.parametrize("name", ["llama3", "qwen2_tied", "qwen3"])
def test_converted_checkpoints_give_the_same_logits(
  name, load_recorded, runner, tmp_path
):
  source = load_recorded(name)
  loaded = gguf.load(_write(tmp_path / "tiny.gguf", source))
  logits = runner.logits(loaded, source.tokens)
  error = float(np.abs(logits - source.logits).max())
  print(f"max_logit_error: {error}")
  assert error <= 1e-4


def test_untied_head_and_stored_divisors(load_recorded, tmp_path):
  source = load_recorded("llama3")
  config = gguf.load(_write(tmp_path / "tiny.gguf", source)).config
  assert not config.tie_embeddings
  assert isinstance(config.rope_scaling, rope.DivisorScaling)
  assert config.rope_scaling.values[0] == pytest.approx(1.0)
  assert config.rope_scaling.values[-1] == pytest.approx(8.0)


def test_an_unsupported_architecture_is_named(load_recorded, tmp_path):
  path = _write(
    tmp_path / "tiny.gguf", load_recorded("llama3"), architecture="gpt2"
  )
  with pytest.raises(
    checkpoints.CheckpointError,
    match="unsupported architecture: got 'gpt2', expected one of llama, qwen2, "
    "qwen3",
  ):
    gguf.load(path)


def test_unsupported_scaling_is_named(load_recorded, tmp_path):
  path = _write(
    tmp_path / "tiny.gguf",
    load_recorded("llama3"),
    scaling=oracle.RopeScalingType.YARN,
  )
  with pytest.raises(
    checkpoints.CheckpointError,
    match="unsupported rope scaling: got 'yarn', expected 'none' or stored "
    r"divisors \(rope_freqs.weight\)",
  ):
    gguf.load(path)


def test_unsupported_quantisation_is_named(load_recorded, tmp_path):
  kind = oracle.GGMLQuantizationType.Q5_K
  block = oracle.GGML_QUANT_SIZES[kind][1]
  path = _write(
    tmp_path / "tiny.gguf",
    load_recorded("llama3"),
    without=("blk.0.ffn_down.weight",),
    raw={"blk.0.ffn_down.weight": (np.zeros((64, block), np.uint8), kind)},
  )
  with pytest.raises(
    gguf_data.GGUFError,
    match=r"tensor 'blk\.0\.ffn_down\.weight' has type Q5_K, which is not "
    "supported; expected one of F32",
  ):
    gguf.load(path)


def test_a_missing_tensor_is_named(load_recorded, tmp_path):
  path = _write(
    tmp_path / "tiny.gguf",
    load_recorded("llama3"),
    without=("blk.1.attn_k.weight",),
  )
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"tiny\.gguf: tensor blk\.1\.attn_k\.weight is missing; the file is "
    "incomplete",
  ):
    gguf.load(path)


def test_a_file_without_embeddings_is_named(load_recorded, tmp_path):
  path = _write(
    tmp_path / "tiny.gguf",
    load_recorded("llama3"),
    without=("token_embd.weight",),
  )
  with pytest.raises(
    checkpoints.CheckpointError, match=r"token_embd\.weight is missing"
  ):
    gguf.load(path)


def test_missing_metadata_is_named(load_recorded, tmp_path):
  path = _write(
    tmp_path / "tiny.gguf",
    load_recorded("llama3"),
    without=("context_length",),
  )
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"metadata key llama\.context_length is missing from the file",
  ):
    gguf.load(path)


def test_a_wrong_shape_is_named(load_recorded, tmp_path):
  path = _write(
    tmp_path / "tiny.gguf",
    load_recorded("llama3"),
    tensors={"blk.0.ffn_up.weight": np.zeros((81, 64), np.float32)},
  )
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"tensor blk\.0\.ffn_up\.weight: got shape \(81, 64\), expected "
    r"\(80, 64\)",
  ):
    gguf.load(path)


def test_a_truncated_file_is_named(load_recorded, tmp_path):
  path = _write(tmp_path / "tiny.gguf", load_recorded("llama3"))
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(gguf_data.GGUFError, match="truncated or corrupt: got"):
    gguf.load(path)
