"""Models NVRAR and NCCL on the paper's machines, and the dispatcher there."""

import dataclasses
from collections.abc import Callable, Mapping

from collectives import machines
from collectives.dispatch import evaluation
from collectives.simulator import systems
from experiments import dispatched
from research.runs import errors

#: The paper's machines.
NAMES = ("perlmutter", "vista")
_K = 1024


@dataclasses.dataclass(kw_only=True)
class Modelled:
  """What is simulated.

  Attributes:
    gpus: of a job, ascending; those that a machine's nodes do not share out are
      left out there.
    sizes: bytes, ascending.
    assumed: factors by which the constants that no source states are changed,
      to see what hangs on them.
    choice: machines on which the dispatcher is judged.
  """

  gpus: tuple[int, ...] = (8, 16, 32, 64, 128)
  sizes: tuple[int, ...] = tuple(_K << power for power in range(3, 15))
  assumed: tuple[float, ...] = (0.5, 2.0)
  choice: tuple[dispatched.Machine, ...] = ()

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    for gpus in self.gpus:
      if gpus < 8 or gpus & (gpus - 1):
        raise errors.UserError(
          f"modelled.gpus: got {gpus}, expected a power of two from 8 on: two "
          "nodes at least, and no folding, which NVRAR's authors do not have"
        )


@dataclasses.dataclass(frozen=True)
class Pair:
  """One all-reduce by both.

  Attributes:
    nvrar: seconds by the better of its protocols.
    nccl: seconds that NCCL's own model predicts for what it would choose.
    choice: what that is, such as `tree/ll`.
  """

  nvrar: float
  nccl: float
  choice: str

  @property
  def ratio(self) -> float:
    """How many times as long NCCL takes."""
    return self.nccl / self.nvrar


#: Machine, factor of its assumed constants, GPUs and bytes to times.
Model = Callable[[str, float, int, int], Pair]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """What the models say.

  Attributes:
    model: the times.
    scores: of the dispatcher, by machine.
  """

  model: Model
  scores: Mapping[str, Mapping[str, evaluation.Score]]


def run(settings: Modelled, *, seed: int) -> Found:
  """Models what is asked for, and prints what goes in.

  Args:
    settings: of the models.
    seed: of the noise in what the dispatcher learns from.
  """
  for name in NAMES:
    print(f"modelled, constants of {machines.load(name)}", flush=True)
  return Found(
    model=pair,
    scores={
      one.name: dispatched.simulate(one, "all_reduce", seed)
      for one in settings.choice
    },
  )


def pair(machine: str, factor: float, gpus: int, nbytes: int) -> Pair:
  """Simulates NVRAR, and asks NCCL's model.

  Args:
    machine: one of `NAMES`.
    factor: by which the profile's assumed constants are changed.
    gpus: of the job.
    nbytes: of a GPU's buffer.

  Example:
    >>> pair("perlmutter", 1.0, 32, 128 << 10).choice
    'tree/ll'
  """
  profile = machines.load(machine).scaled(factor)
  nccl = systems.vendor(profile, "all_reduce", gpus, nbytes)
  return Pair(
    systems.nvrar(profile, gpus, nbytes),
    nccl.seconds,
    f"{nccl.algorithm}/{nccl.protocol}",
  )
