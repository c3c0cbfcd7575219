"""Other people's engines: how to start them and what models to give them."""

import pathlib
from collections.abc import Callable

from absl import flags

from experiments.tools import write_gguf
from research.data import artifacts
from research.telemetry import peer

_PYTHON = flags.DEFINE_string(
  "peers", ".venv-peers/bin/python", "Python with transformers and llama.cpp."
)

SMOLLM2 = "smollm2-135m-instruct-q4_1"
QWEN = "qwen2.5-coder-1.5b-instruct-q4_k_m"
THREADS = 2


def python() -> str:
  """Returns the Python of the rivals."""
  return _PYTHON.value


def worker(name: str, *arguments: str) -> peer.PeerProcess:
  """Returns a rival that starts with its first call.

  Args:
    name: `transformers`, `llama_cpp`, `attention` (torch alone) or `epidemic`.
    arguments: of its script.
  """
  script = pathlib.Path(__file__).parent / "peers" / f"{name}_worker.py"
  return peer.PeerProcess([python(), str(script), *arguments], timeout=600)


def loaded(
  process: peer.PeerProcess, load: dict
) -> Callable[[dict], peer.Reply]:
  """Returns a rival's call, which loads its model the first time."""
  waiting = [load]

  def call(request):
    if waiting:
      process.call(waiting[0])
      waiting.clear()
    return process.call(request)

  return call


def folder() -> pathlib.Path:
  """Returns the cache folder of models that were written for rivals."""
  return artifacts.cache_dir() / "peers"


def smollm2_file() -> pathlib.Path:
  """Returns SmolLM2's own GGUF file."""
  return artifacts.fetch(SMOLLM2)


def float32_file() -> pathlib.Path:
  """Returns SmolLM2 as a GGUF file in float32, written once to the cache."""
  target = folder() / f"{SMOLLM2}-float32.gguf"
  if not target.is_file():
    target.parent.mkdir(parents=True, exist_ok=True)
    write_gguf.write_float32(smollm2_file(), target)
  return target
