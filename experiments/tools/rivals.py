"""Other people's engines: how to start them and what models to give them."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from absl import flags

from experiments.tools import write_gguf
from research.data import artifacts
from research.telemetry import peer
from research.transformer import checkpoints
from research.transformer.checkpoints import hugging_face

_PYTHON = flags.DEFINE_string(
  "peers", ".venv-peers/bin/python", "Python with transformers and llama.cpp."
)

SMOLLM2 = "smollm2-135m-instruct-q4_1"
QWEN = "qwen2.5-coder-1.5b-instruct-q4_k_m"
THREADS = 2
Call = Callable[[dict], peer.Reply]


class Rival(NamedTuple):
  """An engine to start.

  Attributes:
    worker: its name, see `worker`.
    load: what its `load` takes besides threads.
  """

  worker: str
  load: dict


def python() -> str:
  """Returns the Python of the rivals."""
  return _PYTHON.value


def worker(name: str, *arguments: str) -> peer.PeerProcess:
  """Returns a rival that starts with its first call.

  Args:
    name: `transformers`, `llama_cpp`, `openvino`, `attention` (torch alone) or
      `epidemic`.
    arguments: of its script.
  """
  script = pathlib.Path(__file__).parent / "peers" / f"{name}_worker.py"
  return peer.PeerProcess([python(), str(script), *arguments], timeout=600)


def loaded(process: peer.PeerProcess, load: dict) -> Call:
  """Returns a rival's call, which loads its model the first time."""
  waiting = [load]

  def call(request):
    if waiting:
      process.call(waiting[0])
      waiting.clear()
    return process.call(request)

  return call


@contextlib.contextmanager
def started(chosen: Mapping[str, Rival]) -> Iterator[dict[str, Call]]:
  """Starts rivals on two threads each, and ends them.

  Args:
    chosen: by any names.

  Yields:
    Their calls, by the same names.
  """
  with contextlib.ExitStack() as stack:
    yield {
      name: loaded(
        stack.enter_context(worker(rival.worker)),
        {"op": "load", "threads": THREADS, **rival.load},
      )
      for name, rival in chosen.items()
    }


def float32(
  model: checkpoints.Model, *, context: int, rows: int
) -> dict[str, Rival]:
  """Returns the rivals that run SmolLM2's own tensors in float32.

  Args:
    model: SmolLM2.
    context: tokens of a row at most.
    rows: sequences at once at most.
  """
  exported = folder() / "smollm2-135m"
  if not (exported / "config.json").is_file():
    hugging_face.save(model, exported)
  load = {"path": str(float32_file()), "context": context, "rows": rows}
  return {
    "transformers": Rival("transformers", {"folder": str(exported)}),
    "llama_cpp": Rival("llama_cpp", load),
  }


def serving(
  model: checkpoints.Model, *, context: int, rows: int, alike: bool
) -> dict[str, Rival]:
  """Returns those that serve: of `float32`, and on SmolLM2's own 4 bits.

  Args:
    model: SmolLM2.
    context: tokens of a row at most.
    rows: sequences at once at most.
    alike: whether all rows have the same lengths, for which llama.cpp has a
      faster cache.
  """
  load = {"path": str(smollm2_file()), "context": context, "rows": rows}
  chosen = float32(model, context=context, rows=rows) | {
    "llama_cpp, Q4_1": Rival("llama_cpp", load),
    "openvino, Q4_1": Rival("openvino", load),
  }
  return {
    name: rival._replace(load=rival.load | {"unified": not alike})
    if rival.worker == "llama_cpp"
    else rival
    for name, rival in chosen.items()
  }


def steps(
  call: Call, prompts: list[list[int]], count: int
) -> Callable[[], peer.Reply]:
  """Returns a call that times a rival's decode steps.

  Args:
    call: the rival.
    prompts: of equal lengths, read anew each time and not timed.
    count: of steps.
  """

  def timed():
    call({"op": "start", "tokens": prompts})
    return call({"op": "step", "count": count})

  return timed


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
