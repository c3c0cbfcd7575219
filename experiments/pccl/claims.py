"""What is claimed of gathers and scatters, and how each claim is judged.

Rules were written before the first full run. Times are those of processes on
emulated links and are not judged where a neighbour disturbed them. Of the paper
only the abstracts' figures could be verified; they are of 2,048 devices and
against RCCL and Cray-MPICH, so they stand beside the flat ring, the one
all-gather and reduce-scatter that RCCL has.
"""

import dataclasses
from collections.abc import Sequence

from collectives import schedule as sched
from experiments import comparison
from experiments.comparison import kilobytes
from experiments.pccl import config as config_lib
from experiments.pccl.analysis import OURS, Findings, Swept
from experiments.timed_claims import (
  EMPTY,
  at_worst,
  each,
  judged,
  named,
  unmeasured,
)
from research import runs

#: Latency rules up to M β / α of this: a step of no bytes takes two latencies,
#: for the receiver says first that it is ready.
LATENCY_RULES = 2.0
AIM = 2.5
NEAR = 0.95  # of the best of all others: not behind

_PAPER = {
  "all_gather": "on 2,048 GCDs 6 to 33 × RCCL, 28 to 70 × Cray-MPICH",
  "reduce_scatter": "on 2,048 GCDs up to 168 × RCCL",
  "all_reduce": "on 2,048 GCDs up to 10 × RCCL",
}
_PAIRS = {"flat": ("recursive", "ring"), "two-level": (OURS, "pccl_ring")}


def judge(config: config_lib.Config, found: Findings) -> tuple[runs.Claim, ...]:
  """Judges every claim about single collectives.

  Args:
    config: the settings.
    found: the findings.

  Returns:
    The claims of each sweep, in the order of the settings.
  """
  claims = []
  for one in found.swept:
    headline = one.sweep.network == config.headline
    place = "" if headline else slug(one.sweep)
    own = _claims(one, headline)
    claims += [named(claim, place, found.reason) for claim in own]
  return tuple(claims)


def _claims(one: Swept, headline: bool) -> list[runs.Claim]:
  claims = [
    _over(one, ["ring"], "ring", "the flat ring", _PAPER),
    _over(one, ["xla"], "xla", "XLA's own (gloo's)", {}),
  ]
  if one.sweep.collective == "all_reduce":
    return claims
  best = _over(one, one.flat(), "best-flat", "the best of all flat ones", {})
  claims += [best, _fastest(one)]
  # Elsewhere bytes hardly count at the sizes that are measured.
  return claims + [_crossover(one, pair) for pair in _PAIRS if headline]


def slug(sweep: config_lib.Sweep) -> str:
  """Returns a network as part of a name, such as `4x2-5ms-10Gb`."""
  parts = str(sweep.grid).split(",")
  return "-".join(part.split("=")[-1] for part in parts)


def _over(
  one: Swept,
  rivals: Sequence[str],
  rival: str,
  words: str,
  paper: dict[str, str],
) -> runs.Claim:
  title, where = _titles(one)
  claim = dataclasses.replace(
    EMPTY,
    id=f"{_dashed(one)}-over-{rival}",
    statement=f"Where latency rules, PCCL's recursive {title} is faster than "
    f"{words} {where}",
    paper_value=paper.get(one.sweep.collective),
    unit="× at the worst size",
  )
  sizes = [s for s in one.cells.sizes if one.sweep.scaled(s) <= LATENCY_RULES]
  if missing := _missing(one, [OURS, *rivals], sizes):
    return unmeasured(claim, missing)
  ratios = [_against(one, rivals, size) for size in sizes]
  return at_worst(
    claim,
    ratios,
    lambda worst: worst.median >= AIM,
    f"rule: at least {AIM} in medians at every size with M β / α of at most "
    f"{LATENCY_RULES:g}",
  )


def _fastest(one: Swept) -> runs.Claim:
  title, where = _titles(one)
  claim = dataclasses.replace(
    EMPTY,
    id=f"{_dashed(one)}-fastest",
    statement=f"At no size is PCCL's recursive {title} behind any other here, "
    f"flat or two-level, {where}",
    unit="× the best of the others at the worst size",
    scope="beyond",
  )
  rivals = [name for name in one.sweep.names if name != OURS]
  if missing := _missing(one, [OURS, *rivals], one.cells.sizes):
    return unmeasured(claim, missing)
  ratios = [_against(one, rivals, size) for size in one.cells.sizes]
  return at_worst(
    claim,
    ratios,
    lambda worst: worst.median >= NEAR,
    f"rule: at least {NEAR} in medians at every size",
  )


def _crossover(one: Swept, pair: str) -> runs.Claim:
  title, where = _titles(one)
  recursive, ring = _PAIRS[pair]
  claim = dataclasses.replace(
    EMPTY,
    id=f"{_dashed(one)}-crossover-{pair}",
    statement=f"The recursive {title} wins when small and the ring when large, "
    f"both {pair}, {where}",
    paper_value="recursive forms for many ranks and small messages, rings "
    "otherwise",
    unit="bytes where they tie",
  )
  if missing := _missing(one, [recursive, ring], one.cells.sizes):
    return unmeasured(claim, missing)
  ratios = [one.cells.ratio(ring, recursive, size) for size in one.cells.sizes]
  wins = ratios[0].low > 1 and ratios[-1].high < 1
  note = (
    "rule: the 95 % intervals of ring / recursive are above 1 at the smallest "
    f"size and below 1 at the largest; {each(ratios)}"
  )
  only = comparison.Network(
    one.cells.name,
    {k: v for k, v in one.cells.cells.items() if k[0] in (recursive, ring)},
    one.cells.seed,
  )
  ties = [tie for tie in only.crossings() if tie.before == recursive]
  if not ties:
    low, high = (kilobytes(one.cells.sizes[end]) for end in (0, -1))
    measured, interval = f"none from {low} to {high}", None
  else:
    tie = ties[-1]
    measured, interval = round(tie.size), (tie.low, tie.high)
    note += f"; the tie is at M β / α = {one.sweep.scaled(tie.size):.2g}"
  return judged(
    dataclasses.replace(claim, measured=measured, interval=interval, note=note),
    bool(wins and ties),
    contended=any(ratio.contended for ratio in ratios),
  )


def _against(one: Swept, rivals: Sequence[str], size: int) -> comparison.Ratio:
  return one.cells.ratio(one.cells.best(rivals, size), OURS, size)


def _missing(one: Swept, names: Sequence[str], sizes: Sequence[int]) -> str:
  absent = [name for name in names if name not in one.cells.algorithms]
  return ", ".join(absent) or ("" if sizes else "sizes where latency rules")


def _dashed(one: Swept) -> str:
  return one.sweep.collective.replace("_", "-")


def _titles(one: Swept) -> tuple[str, str]:
  """The collective and the network, for statements."""
  collective: sched.Collective = one.sweep.collective
  return (
    collective.replace("_", "-"),
    f"on emulated links ({one.sweep.network})",
  )
