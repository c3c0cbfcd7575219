"""Records what other people's engines answer, for tests/golden.

  python -m experiments.tools.record_goldens --peers=.venv-peers/bin/python

writes, beside the versions that answered,

* `checkpoints/<name>/`: tiny random checkpoints written by transformers, and
  its logits at every position of some tokens;
* `smollm2/`: llama.cpp's best token and negative log-likelihood at every
  position of real text, on the model's own Q4_1 file and on a float32 file
  with the same (dequantised) tensors.

Expect a minute and 2 GB of memory.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments.tools import rivals
from research.data import artifacts, gguf, texts, tokenizer
from research.runs import cli

_OUT = flags.DEFINE_string("out", "tests/golden", "Folder to write into.")

_TEXTS = ("shakespeare/hamlet", "britannica/shakespeare")
_WINDOW = 640  # tokens of each text

_SHAPE: Mapping[str, Any] = {
  "tie_word_embeddings": False,
  "vocab_size": 96,
  "hidden_size": 64,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "max_position_embeddings": 256,
  "rms_norm_eps": 1e-5,
  "initializer_range": 0.15,  # logits of order 1, attention far from uniform
}
# Keeps the first of 8 frequencies, interpolates the second, divides the rest.
_LLAMA3_SCALING = {
  "rope_type": "llama3",
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 32,
}
_CONFIGS: Mapping[str, Mapping[str, Any]] = {
  "llama3": {
    "model_type": "llama",
    "intermediate_size": 80,
    "rope_theta": 10_000.0,
    "rope_scaling": _LLAMA3_SCALING,
  },
  "qwen2_tied": {
    "model_type": "qwen2",
    "intermediate_size": 96,
    "tie_word_embeddings": True,
  },
  "qwen2_untied": {"model_type": "qwen2", "intermediate_size": 80},
  "qwen3": {
    "model_type": "qwen3",
    "head_dim": 24,  # not hidden_size / num_attention_heads
    "intermediate_size": 64,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
  },
}
_SHARDED = "qwen2_untied"


def main(argv: Sequence[str]) -> None:
  """Records everything."""
  del argv
  out = pathlib.Path(_OUT.value)
  record_checkpoints(out / "checkpoints")
  record_smollm2(out / "smollm2")


def record_checkpoints(folder: pathlib.Path) -> None:
  """Has transformers write tiny checkpoints and score tokens with them.

  Args:
    folder: gets one folder a checkpoint, with `golden.npz` in each.
  """
  tokens = np.random.default_rng(0).integers(0, 96, (2, 24), np.int32)
  with rivals.worker("transformers") as engine:
    versions = {}
    for seed, (name, config) in enumerate(_CONFIGS.items()):
      path = folder / name
      path.mkdir(parents=True, exist_ok=True)
      created = engine.call(
        {
          "op": "create",
          "folder": str(path),
          "config": {**_SHAPE, **config},
          "seed": seed,
          "shard_size": "100KB" if name == _SHARDED else "5GB",
        }
      )
      versions = engine.call(
        {"op": "load", "folder": str(path), "threads": rivals.THREADS}
      ).values
      scored = engine.call({"op": "score", "tokens": tokens.tolist()})
      np.savez_compressed(
        path / "golden.npz",
        tokens=tokens,
        logits=np.array(scored.values["logits"], np.float32),
        inverse_frequencies=np.array(
          created.values["inverse_frequencies"], np.float32
        ),
      )
  _write_json(
    folder / "versions.json",
    {"transformers": versions["version"], "torch": versions["torch"]},
  )


def record_smollm2(folder: pathlib.Path) -> None:
  """Has llama.cpp score real text with SmolLM2.

  Args:
    folder: gets `llama_cpp.npz` and `versions.json`.
  """
  folder.mkdir(parents=True, exist_ok=True)
  source = artifacts.fetch(rivals.SMOLLM2)
  words = tokenizer.Tokenizer.from_gguf(gguf.GGUFFile.open(source))
  tokens = [words.encode(texts.load(name))[:_WINDOW] for name in _TEXTS]
  files = {"q4_1": source, "f32": rivals.float32_file()}
  answers, version = {}, None
  for kind, file in files.items():
    with rivals.worker("llama_cpp") as engine:
      loaded = engine.call(
        {
          "op": "load",
          "path": str(file),
          "threads": rivals.THREADS,
          "context": _WINDOW,
        }
      )
      scored = engine.call({"op": "score", "tokens": tokens}).values
    version = loaded.values["version"]
    answers[f"{kind}_argmax"] = np.array(scored["argmax"], np.int32)
    answers[f"{kind}_nll"] = np.array(scored["nll"], np.float32)
  np.savez_compressed(
    folder / "llama_cpp.npz", tokens=np.array(tokens, np.int32), **answers
  )
  _write_json(
    folder / "versions.json",
    {"llama-cpp-python": version, "model": rivals.SMOLLM2, "texts": _TEXTS},
  )


def _write_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
  cli.launch(main)
