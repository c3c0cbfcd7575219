"""What is claimed of NVRAR against NCCL on GPUs: modelled, nothing was timed.

Constants are those of `collectives/machines` and of NCCL's tuner, none from the
paper's results. Of these only the abstract's range could be verified.
"""

import dataclasses

from collectives import machines
from experiments import dispatched
from experiments.comparison import kilobytes
from experiments.multinode_inference import modelled_study
from experiments.multinode_inference.collectives_claims import BAND
from research import runs

SPEED_UP = (1.9, 3.6)  # the abstract's

_EMPTY = runs.Claim(
  id="-",
  statement="-",
  paper_value=None,
  measured=None,
  unit="×",
  kind="modelled",
  scope="paper",
  holds=None,
)


def judge(
  settings: modelled_study.Modelled, found: modelled_study.Found
) -> tuple[runs.Claim, ...]:
  """Judges every modelled claim.

  Args:
    settings: what was modelled.
    found: what came out.
  """
  claims = []
  for machine in modelled_study.NAMES:
    claims += [
      _band(settings, found.model, machine),
      _faster(settings, found.model, machine),
    ]
  for one in settings.choice:
    scores = found.scores[one.name]
    claims.append(dispatched.judge_simulated(one, "all_reduce", scores))
  return tuple(claims)


def _band(
  settings: modelled_study.Modelled, model: modelled_study.Model, machine: str
) -> runs.Claim:
  low, high = SPEED_UP
  pairs = _pairs(settings, model, machine, 1.0)
  ratios = [pair.ratio for pair in pairs.values()]
  inside = {cell for cell, pair in pairs.items() if low <= pair.ratio <= high}
  by_size = ", ".join(
    f"{kilobytes(size)} {_span(settings, pairs, size)}"
    for size in _sizes(settings)
  )
  return dataclasses.replace(
    _EMPTY,
    id=f"modelled-nvrar-band.{machine}",
    statement=f"From 128 KB to 2 MB NVRAR is {low:g} to {high:g} times faster "
    f"than NCCL on {_title(machine)}",
    paper_value=f"{low:g} to {high:g}",
    measured=f"{min(ratios):.2f} to {max(ratios):.2f}",
    holds=len(inside) == len(pairs),
    note=f"rule: within the paper's range at every size and number of GPUs; "
    f"{len(inside)} of {len(pairs)} cells are; on {settings.gpus[0]} to "
    f"{settings.gpus[-1]} GPUs: {by_size}" + _assumed(settings, model, machine),
  )


def _faster(
  settings: modelled_study.Modelled, model: modelled_study.Model, machine: str
) -> runs.Claim:
  pairs = _pairs(settings, model, machine, 1.0)
  gpus, size = min(pairs, key=lambda cell: pairs[cell].ratio)
  worst = pairs[gpus, size]
  return dataclasses.replace(
    _EMPTY,
    id=f"modelled-nvrar-faster.{machine}",
    statement="From 128 KB to 2 MB NVRAR is faster than NCCL at every size on "
    f"{_title(machine)}",
    measured=worst.ratio,
    unit="× at the worst size and number of GPUs",
    scope="mechanism",
    holds=worst.ratio > 1,
    note=f"rule: above 1; worst on {gpus} GPUs at {kilobytes(size)}, against "
    f"{worst.choice}",
  )


def _assumed(
  settings: modelled_study.Modelled, model: modelled_study.Model, machine: str
) -> str:
  words = ""
  for factor in settings.assumed:
    ratios = [
      pair.ratio for pair in _pairs(settings, model, machine, factor).values()
    ]
    words += (
      f"; with assumed times × {factor:g} and assumed speeds / {factor:g} "
      f"{min(ratios):.2f} to {max(ratios):.2f}"
    )
  return words


def _pairs(
  settings: modelled_study.Modelled,
  model: modelled_study.Model,
  machine: str,
  factor: float,
) -> dict[tuple[int, int], modelled_study.Pair]:
  return {
    (gpus, size): model(machine, factor, gpus, size)
    for gpus in settings.gpus
    for size in _sizes(settings)
  }


def _sizes(settings: modelled_study.Modelled) -> list[int]:
  return [size for size in settings.sizes if BAND[0] <= size <= BAND[1]]


def _span(settings: modelled_study.Modelled, pairs, size: int) -> str:
  own = [pairs[gpus, size].ratio for gpus in settings.gpus]
  return f"{min(own):.2f} to {max(own):.2f}"


def _title(machine: str) -> str:
  return machines.load(machine).name
