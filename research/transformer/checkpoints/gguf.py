"""Decoders from GGUF files."""

import pathlib
from typing import Any

import numpy as np

from research.data import gguf
from research.transformer import config as config_lib
from research.transformer import rope
from research.transformer.checkpoints import model, names

_SUPPORTED = ("llama", "qwen2", "qwen3")
_DIVISORS = "rope_freqs.weight"
_EMBEDDING = "token_embd.weight"


def load(path: pathlib.Path) -> model.Model:
  """Reads a GGUF file of a supported architecture, dequantised to float32.

  Args:
    path: the file.

  Returns:
    The model.

  Raises:
    GGUFError: if the file is no GGUF, truncated or of unsupported types.
    CheckpointError: if the architecture is unsupported or a tensor missing.
  """
  file = gguf.GGUFFile.open(path)
  config = read_config(file)

  def read(name: str) -> np.ndarray:
    if name not in file.tensors:
      raise model.CheckpointError(
        f"{path.name}: tensor {name} is missing; the file is incomplete"
      )
    stored = file.load(name)
    if config.architecture == "llama":
      stored = _unpermute(name, stored, config)
    return stored

  return model.fill(config, names.gguf, read)


def read_config(file: gguf.GGUFFile) -> config_lib.DecoderConfig:
  """Reads the decoder's configuration from a file's metadata.

  Args:
    file: an open GGUF file.

  Returns:
    The configuration.

  Raises:
    CheckpointError: naming what is unsupported or missing.
  """
  architecture = file.metadata.get("general.architecture")
  if architecture not in _SUPPORTED:
    raise model.CheckpointError(
      f"unsupported architecture: got {architecture!r}, expected one of "
      f"{', '.join(_SUPPORTED)}"
    )
  get = lambda key, *default: _get(file, f"{architecture}.{key}", *default)
  scaling = get("rope.scaling.type", "none")
  if scaling != "none":
    raise model.CheckpointError(
      f"unsupported rope scaling: got {scaling!r}, expected 'none' or stored "
      f"divisors ({_DIVISORS})"
    )
  if _EMBEDDING not in file.tensors:
    raise model.CheckpointError(
      f"{file.path.name}: tensor {_EMBEDDING} is missing; the file is "
      "incomplete"
    )
  heads, width = get("attention.head_count"), get("embedding_length")
  return config_lib.DecoderConfig(
    architecture=architecture,
    vocab_size=file.tensors[_EMBEDDING].shape[0],
    embed_dim=width,
    num_layers=get("block_count"),
    num_heads=heads,
    num_kv_heads=get("attention.head_count_kv", heads),
    head_dim=get("attention.key_length", width // heads),
    mlp_dim=get("feed_forward_length"),
    context_length=get("context_length"),
    rope_theta=float(get("rope.freq_base", 10_000.0)),
    rope_scaling=(
      rope.DivisorScaling(tuple(file.load(_DIVISORS).tolist()))
      if _DIVISORS in file.tensors
      else None
    ),
    norm_eps=float(get("attention.layer_norm_rms_epsilon")),
    tie_embeddings="output.weight" not in file.tensors,
    qkv_bias="blk.0.attn_q.bias" in file.tensors,
    qk_norm="blk.0.attn_q_norm.weight" in file.tensors,
  )


def _get(file: gguf.GGUFFile, key: str, *default: Any) -> Any:
  if key in file.metadata:
    return file.metadata[key]
  if default:
    return default[0]
  raise model.CheckpointError(f"metadata key {key} is missing from the file")


def _unpermute(
  name: str, stored: np.ndarray, config: config_lib.DecoderConfig
) -> np.ndarray:
  """Undoes llama.cpp's interleaving of rotary pairs (0::2 with 1::2)."""
  if not name.endswith(("attn_q.weight", "attn_k.weight")):
    return stored
  heads = config.num_heads if "attn_q" in name else config.num_kv_heads
  pairs = stored.reshape(heads, config.head_dim // 2, 2, -1)
  return pairs.swapaxes(1, 2).reshape(stored.shape)
