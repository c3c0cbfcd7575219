r"""How long a ZeRO-3 step takes on Frontier, modelled.

Computing takes FLOPs over a GCD's peak and an efficiency, which no data sheet
gives; how much of the communication it hides is not known either. Both are
ranges, and so is the batch: $t = t_c + t_m$ if nothing is hidden, and
$\max(t_c, t_m)$ if everything is.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from experiments.pccl import step_traffic
from experiments.pccl.modelled_study import OURS, RCCL, Clock, System

PEAK = 383e12 / 2  # MI250X data sheet: 383 TFLOP/s in bfloat16 on two GCDs
BYTES = 2  # of a number: bfloat16
ROW = 2048  # tokens, GPT-3's context


@dataclasses.dataclass(frozen=True)
class Load:
  """What no source fixes.

  Attributes:
    efficiency: share of the peak at which a GCD computes. 38.38 % was reached
      on Frontier with 22 billion parameters, 31.96 % with 10^12, communication
      counted in (arXiv 2312.12705, other software); half of the peak is an
      assumption.
    batch: tokens of a step. 2^22 is the least of which each of 2,048 GCDs has a
      whole row; GPT-3's 7B and 13B had half of that.
    hidden: whether computing hides communication as far as it lasts.
  """

  efficiency: float = 0.3838
  batch: int = 1 << 22
  hidden: bool = False


USUAL = Load()


def loads() -> Iterator[Load]:
  """Yields the ends of all ranges, and what lies in them."""
  for parts in itertools.product(
    (0.3196, 0.3838, 0.5), (1 << 22, 1 << 23), (False, True)
  ):
    yield Load(*parts)


def flops(model: str) -> float:
  """FLOPs a token, forward and backward (PaLM, arXiv 2204.02311, appendix B).

  Example:
    >>> f"{flops('7b'):.3g}"
    '4.33e+10'
  """
  config = step_traffic.MODELS[model]
  attention = 12 * config.num_layers * config.embed_dim * ROW
  return 6.0 * config.num_parameters + attention


def computing(model: str, ranks: int, load: Load) -> float:
  """Seconds that a step computes."""
  return flops(model) * load.batch / ranks / (PEAK * load.efficiency)


def sending(
  clock: Clock, system: System, traffic: step_traffic.Traffic, ranks: int
) -> float:
  """Seconds of all collectives of a step, one after another."""
  return sum(
    call.times * clock(system, call.collective, ranks, BYTES * call.numbers)
    for call in traffic.calls
  )


def step(
  clock: Clock,
  system: System,
  model: str,
  traffic: step_traffic.Traffic,
  ranks: int,
  load: Load = USUAL,
) -> float:
  """Seconds of a step.

  Args:
    clock: of the machine.
    system: who gathers and scatters.
    model: of `step_traffic.MODELS`.
    traffic: what its step sends.
    ranks: GCDs, of which each has its part of the batch.
    load: what no source fixes.
  """
  parts = (
    computing(model, ranks, load),
    sending(clock, system, traffic, ranks),
  )
  return max(parts) if load.hidden else sum(parts)


def gain(
  clock: Clock,
  model: str,
  traffic: step_traffic.Traffic,
  ranks: int,
  load: Load = USUAL,
) -> float:
  """How much faster a step is by PCCL's recursive form than by RCCL, in %."""
  theirs, ours = (
    step(clock, system, model, traffic, ranks, load) for system in (RCCL, OURS)
  )
  return 100 * (theirs / ours - 1)
