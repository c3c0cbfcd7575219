"""Models Frontier's collectives, training steps and choice of algorithm."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, Literal

from collectives import machines
from collectives import schedule as sched
from collectives.dispatch import evaluation
from collectives.simulator import systems
from experiments import dispatched
from experiments.pccl import modelled_config, step_traffic
from research import runs

MACHINE = "frontier"
System = Literal["pccl_recursive", "pccl_ring", "RCCL", "Cray MPICH"]
OURS: Final = "pccl_recursive"
PCCL_RING: Final = "pccl_ring"
RCCL: Final = "RCCL"
CRAY_MPICH: Final = "Cray MPICH"
SYSTEMS: tuple[System, ...] = (OURS, PCCL_RING, RCCL, CRAY_MPICH)
SIDES: tuple[step_traffic.Side, ...] = ("all_gather", "reduce_scatter")

#: System, collective, GCDs and bytes of the whole buffer to seconds.
Clock = Callable[[System, step_traffic.Side, int, float | int], float]
_ENDS = (1 << 20, 1 << 30)  # bytes


class Simulated:
  """A clock for one machine.

  PCCL's schedules are simulated at two sizes, and others lie on the line
  through both: where all ranks do the same, time is latencies and bytes.

  Example:
    >>> clock = Simulated(machines.load(MACHINE))
    >>> clock(OURS, "all_gather", 16, 1 << 20) < clock(
    ...   RCCL, "all_gather", 16, 1 << 20)
    True
  """

  def __init__(self, profile: machines.Profile):
    self._profile = profile
    self._lines: dict[tuple[System, step_traffic.Side, int], list[float]] = {}

  def __call__(
    self,
    system: System,
    collective: step_traffic.Side,
    ranks: int,
    nbytes: float | int,
  ) -> float:
    """Returns seconds."""
    if system == RCCL:
      return systems.vendor(self._profile, collective, ranks, nbytes).seconds
    if system == CRAY_MPICH:
      return systems.cray_mpich(self._profile, collective, ranks, nbytes)
    key = system, collective, ranks
    if key not in self._lines:
      self._lines[key] = [
        systems.pccl(self._profile, collective, ranks, size, system)
        for size in _ENDS
      ]
    low, high = self._lines[key]
    share = (nbytes - _ENDS[0]) / (_ENDS[1] - _ENDS[0])
    return low + share * (high - low)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """What the models say.

  Attributes:
    clock: for the machine's profile.
    assumed: clocks for profiles whose assumed constants are changed, by factor.
    traffic: what a training step sends, by model.
    scores: of the dispatcher, by machine and collective.
  """

  clock: Clock
  assumed: Mapping[float, Clock]
  traffic: Mapping[str, step_traffic.Traffic]
  scores: Mapping[tuple[str, sched.Collective], Mapping[str, evaluation.Score]]


def run(
  settings: modelled_config.Modelled, context: runs.Context, *, seed: int
) -> Found:
  """Models what is asked for, and prints what goes in.

  Args:
    settings: of the models.
    context: each compiled training step is a unit of its stage `compiled`.
    seed: of the noise in what the dispatcher learns from.
  """
  profile = machines.load(MACHINE)
  print(f"modelled, constants of {profile}", flush=True)
  return Found(
    clock=Simulated(profile),
    assumed={
      factor: Simulated(profile.scaled(factor)) for factor in settings.assumed
    },
    traffic=step_traffic.run(settings.models, context),
    scores={
      (one.name, side): dispatched.simulate(one, side, seed)
      for one in settings.choice
      for side in SIDES
    },
  )
