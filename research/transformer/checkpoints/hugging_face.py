"""Decoders from and to Hugging Face folders (config.json + safetensors)."""

import json
import pathlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from research.transformer import config as config_lib
from research.transformer import rope
from research.transformer.checkpoints import layout, model, names

_CLASSES = {
  "llama": "LlamaForCausalLM",
  "qwen2": "Qwen2ForCausalLM",
  "qwen3": "Qwen3ForCausalLM",
}
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def load(folder: pathlib.Path, *, dtype: str = "float32") -> model.Model:
  """Reads a folder with one safetensors file or a sharded index.

  Args:
    folder: holds `config.json` and the weights.
    dtype: of the weights in memory.

  Returns:
    The model.

  Raises:
    CheckpointError: naming the missing file or tensor, or what is unsupported.
  """
  config = read_config(_json(folder / "config.json"), dtype=dtype)
  files = _tensor_files(folder)

  def read(name: str) -> np.ndarray:
    if name not in files:
      raise model.CheckpointError(
        f"{folder}: tensor {name} is missing; the checkpoint is incomplete"
      )
    with _open(files[name]) as file:
      return np.asarray(file.get_tensor(name))

  return model.fill(config, names.hugging_face, read)


def save(
  weights: model.Model, folder: pathlib.Path, *, shard_bytes: int = 5 * 10**9
) -> None:
  """Writes a folder that `transformers` loads.

  Args:
    weights: the model.
    folder: made if missing.
    shard_bytes: the most bytes of tensors a file holds, one tensor at least.
  """
  text = json.dumps(write_config(weights.config), indent=2)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "config.json").write_text(text + "\n")
  shards: list[dict[str, np.ndarray]] = [{}]
  size = total = 0
  for path, variable in model.parameters(weights.state):
    parts = layout.split(path, np.asarray(variable[...]))
    for name, part in zip(names.hugging_face(path), parts, strict=True):
      total += part.nbytes
      if shards[-1] and size + part.nbytes > shard_bytes:
        shards.append({})
        size = 0
      shards[-1][name] = part
      size += part.nbytes
  _write_shards(folder, shards, total)


def read_config(
  values: dict[str, Any], *, dtype: str
) -> config_lib.DecoderConfig:
  """Reads a `config.json`.

  Args:
    values: the parsed file.
    dtype: of the weights in memory.

  Returns:
    The configuration.

  Raises:
    CheckpointError: naming the unsupported architecture or option.
  """
  kind = values.get("model_type")
  if kind not in _CLASSES:
    raise model.CheckpointError(
      f"unsupported architecture: got {kind!r}, expected one of "
      f"{', '.join(_CLASSES)}"
    )
  for option in ("use_sliding_window", "mlp_bias", "attention_bias"):
    if values.get(option):
      raise model.CheckpointError(f"unsupported option: got {option}=true")
  if values.get("hidden_act", "silu") != "silu":
    raise model.CheckpointError(
      f"unsupported option: got hidden_act={values['hidden_act']!r}, expected "
      "'silu'"
    )
  try:
    return _read_fields(values, dtype)
  except KeyError as error:
    raise model.CheckpointError(
      f"config.json: {error.args[0]} is missing; the file is incomplete"
    ) from error


def _read_fields(
  values: dict[str, Any], dtype: str
) -> config_lib.DecoderConfig:
  kind = values["model_type"]
  theta, scaling = _rope(values)
  heads = values["num_attention_heads"]
  return config_lib.DecoderConfig(
    architecture=kind,
    vocab_size=values["vocab_size"],
    embed_dim=values["hidden_size"],
    num_layers=values["num_hidden_layers"],
    num_heads=heads,
    num_kv_heads=values.get("num_key_value_heads") or heads,
    head_dim=values.get("head_dim") or values["hidden_size"] // heads,
    mlp_dim=values["intermediate_size"],
    context_length=values["max_position_embeddings"],
    rope_theta=theta,
    rope_scaling=scaling,
    norm_eps=values["rms_norm_eps"],
    tie_embeddings=bool(values.get("tie_word_embeddings")),
    qkv_bias=kind == "qwen2",
    qk_norm=kind == "qwen3",
    dtype=dtype,
  )


def write_config(config: config_lib.DecoderConfig) -> dict[str, Any]:
  """Returns the `config.json` of a decoder.

  Args:
    config: the decoder.

  Raises:
    CheckpointError: if its rotary divisors have no name there.
  """
  if isinstance(config.rope_scaling, rope.DivisorScaling):
    raise model.CheckpointError(
      "rope divisors of a GGUF file have no place in a config.json; set "
      "rope_scaling to a Llama3Scaling before saving"
    )
  values: dict[str, Any] = {
    "architectures": [_CLASSES[config.architecture]],
    "model_type": config.architecture,
    "vocab_size": config.vocab_size,
    "hidden_size": config.embed_dim,
    "num_hidden_layers": config.num_layers,
    "num_attention_heads": config.num_heads,
    "num_key_value_heads": config.num_kv_heads,
    "head_dim": config.head_dim,
    "intermediate_size": config.mlp_dim,
    "max_position_embeddings": config.context_length,
    "rope_theta": config.rope_theta,
    "rms_norm_eps": config.norm_eps,
    "tie_word_embeddings": config.tie_embeddings,
    "hidden_act": "silu",
    "torch_dtype": config.dtype,
  }
  if config.rope_scaling is not None:
    values["rope_scaling"] = {
      "rope_type": "llama3",
      "factor": config.rope_scaling.factor,
      "low_freq_factor": config.rope_scaling.low_freq_factor,
      "high_freq_factor": config.rope_scaling.high_freq_factor,
      "original_max_position_embeddings": config.rope_scaling.original_context,
    }
  return values


def _rope(values: dict[str, Any]) -> tuple[float, rope.Scaling | None]:
  """Reads the older (`rope_scaling`) and newer (`rope_parameters`) form."""
  fields = values.get("rope_parameters") or values.get("rope_scaling") or {}
  theta = fields.get("rope_theta", values.get("rope_theta", 10_000.0))
  kind = fields.get("rope_type", fields.get("type", "default"))
  if kind == "default":
    return float(theta), None
  if kind != "llama3":
    raise model.CheckpointError(
      f"unsupported rope scaling: got {kind!r}, expected 'default' or 'llama3'"
    )
  return float(theta), rope.Llama3Scaling(
    factor=fields["factor"],
    low_freq_factor=fields["low_freq_factor"],
    high_freq_factor=fields["high_freq_factor"],
    original_context=fields["original_max_position_embeddings"],
  )


def _json(path: pathlib.Path) -> dict[str, Any]:
  if not path.is_file():
    raise model.CheckpointError(
      f"{path} is missing; give a folder with config.json and safetensors"
    )
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise model.CheckpointError(
      f"{path} is no intact JSON: {error}; fetch it again"
    ) from error


def _open(path: pathlib.Path) -> Any:
  if not path.is_file():
    raise model.CheckpointError(
      f"{path} is missing; the checkpoint is incomplete"
    )
  try:
    # The flax framework reads bfloat16, which numpy alone does not know.
    return safetensors.safe_open(path, framework="flax")
  except safetensors.SafetensorError as error:
    raise model.CheckpointError(
      f"{path} is no intact safetensors file: {error}; fetch it again"
    ) from error


def _tensor_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  if (folder / _INDEX).is_file():
    index = _json(folder / _INDEX)["weight_map"]
    return {name: folder / file for name, file in index.items()}
  if not (folder / _SINGLE).is_file():
    raise model.CheckpointError(
      f"{folder} has neither {_SINGLE} nor {_INDEX}; give a folder with one"
    )
  with _open(folder / _SINGLE) as file:
    return {name: folder / _SINGLE for name in file.keys()}


def _write_shards(
  folder: pathlib.Path, shards: list[dict[str, np.ndarray]], total: int
) -> None:
  if len(shards) == 1:
    safetensors.numpy.save_file(
      shards[0], folder / _SINGLE, metadata={"format": "pt"}
    )
    return
  index = {}
  for number, shard in enumerate(shards, 1):
    name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
    safetensors.numpy.save_file(shard, folder / name, metadata={"format": "pt"})
    index |= dict.fromkeys(shard, name)
  text = {"metadata": {"total_size": total}, "weight_map": index}
  (folder / _INDEX).write_text(json.dumps(text, indent=2) + "\n")
