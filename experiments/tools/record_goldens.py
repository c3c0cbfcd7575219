"""Records what other people's engines answer, for tests/golden.

  python -m experiments.tools.record_goldens --peers=.venv-peers/bin/python

writes, beside the versions that answered,

* `checkpoints/<name>/`: tiny random checkpoints written by transformers, and
  its logits at every position of some tokens;
* `smollm2/`: llama.cpp's best token and negative log-likelihood at every
  position of real text, on the model's own Q4_1 file and on a float32 file
  with the same (dequantised) tensors;
* `qwen2.5-coder/`: the same of that model, and llama.cpp's ids of some lines,
  if its file is in the cache already (nothing else here is fetched);
* `starsim.json`: shares of people whom epidemics reach in Starsim, whose
  reproduction numbers are known by construction.

Expect a minute and 2 GB of memory; with the second model three minutes, 8 GB
of memory, and 7 GB of disk until it is done.
"""

import json
import pathlib
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments.tools import rivals, write_gguf
from research.data import artifacts, gguf, texts, tokenizer
from research.runs import cli

_OUT = flags.DEFINE_string("out", "tests/golden", "Folder to write into.")

_TEXTS = ("shakespeare/hamlet", "britannica/shakespeare")
_WINDOW = 640  # tokens of each text
_QWEN_WINDOW = 128

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
  record_qwen(out / "qwen2.5-coder")
  record_starsim(out / "starsim.json")


def record_starsim(path: pathlib.Path) -> None:
  """Has Starsim run SIR epidemics over random pairs, new ones each day.

  An infection of d days transmits on d - 1 of them, so that the reproduction
  number is the contacts of these days times the chance of one.

  Args:
    path: gets the shares ever infected, by reproduction number and seed.
  """
  people, share, contacts, infectious = 100_000, 0.01, 10, 41
  rows, version = [], ""
  with rivals.worker("epidemic", "starsim") as engine:
    for number in (1.5, 2.0, 3.0):
      request = {
        "people": people,
        "days": 900,
        "share": share,
        "contacts": contacts,
        "infectious": infectious,
        "beta": number / (contacts * (infectious - 1)),
      }
      replies = [engine.call(request | {"seed": seed}) for seed in range(3)]
      attacks = [reply.values["attack"] for reply in replies]
      rows.append({"reproduction_number": number, "attacks": attacks})
      version = replies[0].values["version"]
  found = {"version": version, "people": people, "share": share, "rows": rows}
  path.write_text(json.dumps(found, indent=2) + "\n")


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
  _record_scores(folder, rivals.SMOLLM2, rivals.float32_file(), _WINDOW)


def record_qwen(folder: pathlib.Path) -> None:
  """Has llama.cpp cut and score real text with Qwen2.5-Coder, if it is here.

  Args:
    folder: gets `llama_cpp.npz`, `versions.json` and `tokens.json`.
  """
  try:
    source = artifacts.fetch(rivals.QWEN, offline=True)
  except artifacts.ArtifactError as error:
    print(f"{folder} stays as it is: {error}")
    return
  with tempfile.TemporaryDirectory(dir=artifacts.cache_dir()) as scratch:
    float32 = pathlib.Path(scratch) / "float32.gguf"
    write_gguf.write_float32(source, float32)
    _record_scores(folder, rivals.QWEN, float32, _QWEN_WINDOW)
  lines = _lines()
  with rivals.worker("llama_cpp") as engine:
    cut = engine.call({"op": "tokenize", "path": str(source), "lines": lines})
  answer = json.dumps({"lines": lines, "ids": cut.values["ids"]})
  (folder / "tokens.json").write_text(answer + "\n")


def _lines() -> list[str]:
  """Every 40th line of the texts, and of this very code."""
  code = "\n".join(
    path.read_text("utf-8")
    for path in sorted(pathlib.Path(__file__).parents[1].rglob("*.py"))
  )
  sources = [*(texts.load(name) for name in _TEXTS), code]
  lines = [line for text in sources for line in text.splitlines()[::40]]
  # llama.cpp leaves out the model's normaliser.
  return [unicodedata.normalize("NFC", line) for line in lines if line.strip()]


def _record_scores(
  folder: pathlib.Path, artifact: str, float32: pathlib.Path, window: int
) -> None:
  """Has llama.cpp score texts on a model's own file and its float32 twin."""
  folder.mkdir(parents=True, exist_ok=True)
  source = artifacts.fetch(artifact)
  words = tokenizer.Tokenizer.from_gguf(gguf.GGUFFile.open(source))
  tokens = [words.encode(texts.load(name))[:window] for name in _TEXTS]
  files = {artifact.rpartition("-")[2]: source, "f32": float32}
  answers, version = {}, None
  for kind, file in files.items():
    with rivals.worker("llama_cpp") as engine:
      loaded = engine.call(
        {
          "op": "load",
          "path": str(file),
          "threads": rivals.THREADS,
          "context": window,
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
    {"llama-cpp-python": version, "model": artifact, "texts": _TEXTS},
  )


def _write_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
  cli.launch(main)
