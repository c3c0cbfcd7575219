"""What a ZeRO-3 step of GPT-3's shapes sends, by its plan and as compiled.

The step is that of `research.systems.pccl.zero3`, with all layers and their
true shapes, compiled for a few host devices from shapes alone: nothing is
allocated, no parameter exists. The plan of its buckets says what each gather
and scatter carries; the compiled program has to send as much. Numbers are
counted, not bytes: XLA:CPU does bfloat16 collectives in float32.
"""

import dataclasses
import functools
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from collectives import schedule as sched
from experiments.tools import collective_bytes
from research import mesh, runs
from research.cluster import children
from research.systems.pccl import objective, zero3
from research.transformer import config as config_lib

#: The collectives of a step, but for its loss.
Side = Literal["all_gather", "reduce_scatter"]

RANKS = 4  # for which it is compiled; what a gather carries has no ranks
_TOKENS = 8  # of a row: what a step sends does not depend on it


def _gpt3(layers: int, width: int, mlp: int) -> config_lib.DecoderConfig:
  return config_lib.DecoderConfig(
    vocab_size=50_304,
    embed_dim=width,
    num_layers=layers,
    num_heads=width // 128,
    num_kv_heads=width // 128,
    head_dim=128,
    mlp_dim=mlp,
    context_length=2048,
    tie_embeddings=True,
  )


#: Layers and widths of GPT-3 6.7B and 13B (arXiv 2005.14165, table 2.1); a
#: gated MLP of Llama's width (arXiv 2302.13971) has as many weights as theirs.
MODELS = {"7b": _gpt3(32, 4096, 11_008), "13b": _gpt3(40, 5120, 13_824)}


@dataclasses.dataclass(frozen=True)
class Call:
  """A collective of a step.

  Attributes:
    collective: what it is.
    numbers: in the whole buffer.
    times: how often it runs in a step.
  """

  collective: Side
  numbers: int
  times: int


@dataclasses.dataclass(frozen=True)
class Traffic:
  """What a step sends.

  Attributes:
    calls: by the plan.
    compiled: numbers of all buffers, each as often as it goes, in the program.
  """

  calls: tuple[Call, ...]
  compiled: float

  @property
  def planned(self) -> int:
    """Numbers of all buffers, each as often as it goes, by the plan."""
    return sum(call.numbers * call.times for call in self.calls)


def run(models: Sequence[str], context: runs.Context) -> dict[str, Traffic]:
  """Compiles a step of each model, in a process of its own.

  Args:
    models: names of `MODELS`.
    context: each is a unit of its stage `compiled`.
  """
  if not models:
    return {}
  units = context.units("compiled").map(
    models, lambda name: {"numbers": _compiled(name)}
  )
  return {
    name: Traffic(plan(MODELS[name]), float(units[name]["numbers"]))
    for name in models
  }


def _compiled(name: str) -> float:
  """Asks a new process, which can have as many devices as it wants."""
  command = [sys.executable, "-m", "experiments.pccl.compile_step", name]
  done = subprocess.run(
    children.dying_with_parent(command), capture_output=True, text=True
  )
  if done.returncode:
    raise RuntimeError(
      f"got code {done.returncode} from {' '.join(command)}, expected 0; it "
      f"said: {done.stderr[-2000:]}"
    )
  return float(json.loads(done.stdout.splitlines()[-1]))


def plan(config: config_lib.DecoderConfig) -> tuple[Call, ...]:
  """Lists the collectives of a step of a decoder, without its loss.

  A block is gathered for the forward and for the backward pass, what comes
  before and after the blocks once; gradients of each are scattered once.

  Example:
    >>> small = dataclasses.replace(_gpt3(2, 256, 512), vocab_size=512)
    >>> plan(small)[0]
    Call(collective='all_gather', numbers=655872, times=4)
  """
  units = _trainer(config, 1).plans
  calls = []
  for name in sorted(units):
    repeats, gathers = (config.num_layers, 2) if name == "blocks" else (1, 1)
    for bucket in units[name].buckets:
      calls += [
        Call("all_gather", bucket.size, repeats * gathers),
        Call("reduce_scatter", bucket.size, repeats),
      ]
  return tuple(calls)


def compile_step(config: config_lib.DecoderConfig, ranks: int) -> float:
  """Compiles a step and counts what it sends.

  Args:
    config: the decoder.
    ranks: devices, which have to be there.

  Returns:
    Numbers of all buffers that are gathered or scattered. A rank sends all but
    its own part of each.
  """
  trainer = _trainer(config, ranks)
  shapes = jax.eval_shape(
    functools.partial(objective.parameters, config), jax.random.key(0)
  )
  state = jax.eval_shape(trainer.init, shapes)
  tokens = jax.ShapeDtypeStruct((ranks, _TOKENS + 1), jnp.int32)
  text = trainer.step.lower(state, tokens).compile().as_text()
  assert text
  sent = collective_bytes.count(text, sched.Grid(ranks))
  return sent.rank / 4 * ranks / (ranks - 1)


def _trainer(config: config_lib.DecoderConfig, ranks: int) -> zero3.Zero3:
  return zero3.Zero3(
    config=config,
    optimizer=optax.adam(1e-3),
    mesh=mesh.make_mesh({"data": ranks}),
    axes=("data",),
  )
