"""How well `algorithm="auto"` chooses, on simulated machines and timed rows.

On a simulated machine whole blocks of node counts and sizes are held out, and
what is learned from has noise. Of timed rows one grid and size after another is
held out; what is learned comes from every other block of calls, and the rest
judges it.
"""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from collectives import algorithms, machines
from collectives import schedule as sched
from collectives.dispatch import (
  cells,
  choices,
  evaluation,
  learners,
  simulated,
  table,
  tuning,
)
from experiments import emulated_links, timed_claims
from experiments.comparison import kilobytes
from research import runs
from research.cluster import network as network_lib

TOP1 = 0.9  # share of held-out cells in which the choice is the fastest
REGRET = 0.03  # mean share of time lost
SLOWER = 0.05  # than the fastest, at any size that was tuned for

_BLOCK = (2, 2)  # numbers of nodes and sizes that are held out together
_TIE = 0.01
_DTYPE = "float32"


class Timed(NamedTuple):
  """What was timed on one network.

  Attributes:
    collective: what it was.
    network: as `research.cluster.network.parse` reads it.
    rows: none where links cannot be emulated; those of peers do not count.
    devices: ranks of each process.
  """

  collective: sched.Collective
  network: str
  rows: Sequence[emulated_links.Pooled]
  devices: int = 1

  @property
  def grid(self) -> sched.Grid:
    """Nodes, and ranks of each."""
    links = network_lib.parse(self.network)
    return sched.Grid(links.nodes, links.per_node * self.devices)

  @property
  def links(self) -> str:
    """The links alone, such as `1ms-1Gb`, for readers and ids."""
    _, *parts = self.network.split(",")
    return "-".join(part.split("=")[-1] for part in parts)


@dataclasses.dataclass(kw_only=True)
class Machine:
  """A simulated machine on which the choice is judged.

  Attributes:
    name: of its profile.
    nodes: how many nodes, ascending.
    sizes: bytes of the whole buffer, ascending.
  """

  name: str
  nodes: tuple[int, ...]
  sizes: tuple[int, ...]


def simulate(
  machine: Machine, collective: sched.Collective, seed: int
) -> dict[str, evaluation.Score]:
  """Holds out blocks of a simulated machine's cells.

  Args:
    machine: what to simulate.
    collective: what it computes.
    seed: of the noise of what is learned from.

  Returns:
    A score for each way to choose; without scikit-learn none for `svm`.
  """
  profile = machines.load(machine.name)
  names = ["xla", *algorithms.names(collective)]
  if profile["ranks"] == 1:
    names = [name for name in names if not cells.hierarchical(name)]
  truth = simulated.simulate(
    profile, collective, names, machine.nodes, machine.sizes
  )
  noisy = cells.noisy(truth, np.random.default_rng(seed))
  return evaluation.evaluate(
    collective,
    noisy,
    truth,
    block=_BLOCK,
    tie=_TIE,
    compare=_able(evaluation.LEARNERS),
  )


def judge_simulated(
  machine: Machine,
  collective: sched.Collective,
  scores: Mapping[str, evaluation.Score],
) -> runs.Claim:
  """Judges the choice on a simulated machine.

  Args:
    machine: what was simulated.
    collective: what it computes.
    scores: what `simulate` returned.
  """
  title = machines.load(machine.name).name
  local = machines.load(machine.name)["ranks"]
  return dataclasses.replace(
    _held_out(collective, scores),
    id=f"modelled-{_dashed(collective)}-choice.{machine.name}",
    statement=f"Where nothing was timed, the dispatcher takes the fastest "
    f"{_dashed(collective)} in 90 % of the cells at 3 % mean regret, simulated "
    f"on {title}",
    kind="modelled",
    time_dependent=False,
    note=f"{_rule(scores)}; {_words(scores)}; noise of 5 % and outliers; "
    f"{machine.nodes[0]} to {machine.nodes[-1]} nodes of {local}, "
    f"{kilobytes(machine.sizes[0])} to {kilobytes(machine.sizes[-1])}, blocks "
    "of two node counts and two sizes; of NCCL and RCCL their own models",
  )


def judge_timed(timed: Sequence[Timed], reason: str) -> tuple[runs.Claim, ...]:
  """Judges the choice by what was timed, for each collective and kind of link.

  Args:
    timed: by network; networks of the same links are one machine.
    reason: why there are no rows; else empty.

  Returns:
    For each the choice where nothing was timed, and where it was.
  """
  groups: dict[tuple[sched.Collective, str], list[Timed]] = {}
  for one in timed:
    groups.setdefault((one.collective, one.links), []).append(one)
  return tuple(
    claim
    for (collective, place), own in groups.items()
    for claim in _judge_links(collective, place, own, reason)
  )


def _judge_links(
  collective: sched.Collective, place: str, timed: Sequence[Timed], reason: str
) -> tuple[runs.Claim, runs.Claim]:
  name = _dashed(collective)
  where = f"on emulated links ({place})"
  unseen = dataclasses.replace(
    timed_claims.EMPTY,
    id=f"{name}-choice-held-out.{place}",
    statement="At grids and sizes that it has not seen, the dispatcher takes "
    f"the fastest {name} in 90 % of the cells at 3 % mean regret, {where}",
    unit="% of the cells",
    scope="beyond",
  )
  seen = dataclasses.replace(
    timed_claims.EMPTY,
    id=f"{name}-auto.{place}",
    statement=f'algorithm="auto" is at no measured size 5 % slower than the '
    f"fastest {name}, {where}",
    unit="% slower at the worst size",
    scope="beyond",
  )
  learn, judge = (_cells(timed, first) for first in (0, 1))
  if reason or len(learn) < 2:
    why = f"not judged: {reason or 'this config measured one size or none'}"
    unseen, seen = (dataclasses.replace(c, note=why) for c in (unseen, seen))
    return unseen, seen
  contended = any(row.contended for one in timed for row in _ours(one))
  scores = evaluation.evaluate(
    collective,
    learn,
    judge,
    block=(1, 1),
    tie=_TIE,
    compare=_able(evaluation.GLOO_LEARNERS),
  )
  found = _held_out(collective, scores)
  held = dataclasses.replace(
    unseen,
    measured=found.measured,
    note=f"{_rule(scores)}; {_words(scores)}; one grid and size held out after "
    "another; learned from every other block of calls, judged by the rest",
  )
  return (
    timed_claims.judged(held, found.holds, contended=contended),
    _auto(seen, collective, learn, judge, contended=contended),
  )


def _auto(
  claim: runs.Claim,
  collective: sched.Collective,
  learn: Sequence[cells.Cell],
  judge: Sequence[cells.Cell],
  *,
  contended: bool,
) -> runs.Claim:
  """Tunes as `tune_collectives` does, and asks as `"auto"` does."""
  part = tuning.train(
    collective, learn, table.learn, dtypes=(_DTYPE,), gloo=True
  )
  known = choices.Choices({collective: (part,)})
  taken = [
    known.choose(collective, cell.nbytes, _DTYPE, cell.grid).algorithm
    for cell in judge
  ]
  regrets = [cell.regret(name) for cell, name in zip(judge, taken, strict=True)]
  again = [a.regret(b.best) for a, b in zip(judge, learn, strict=True)]
  each = ", ".join(
    f"{cell.grid.nodes}x{cell.grid.local} {kilobytes(cell.nbytes)} {name} "
    f"{100 * regret:.1f} % ({cell.best})"
    for cell, name, regret in zip(judge, taken, regrets, strict=True)
  )
  return timed_claims.judged(
    dataclasses.replace(
      claim,
      measured=100 * max(regrets),
      note=f"rule: at most {100 * SLOWER:g}; tuned with every other block of "
      "calls, judged by the medians of the rest, so noise counts too (whoever "
      f"takes the fastest of the first half loses {100 * max(again):.1f} at "
      f"most); choices (fastest in brackets): {each}",
    ),
    max(regrets) <= SLOWER,
    contended=contended,
  )


def _held_out(
  collective: sched.Collective, scores: Mapping[str, evaluation.Score]
) -> runs.Claim:
  best = scores["table"]
  return dataclasses.replace(
    timed_claims.EMPTY,
    statement=_dashed(collective),
    measured=100 * best.top1,
    unit="% of the cells",
    scope="beyond",
    holds=best.top1 >= TOP1 and best.mean_regret <= REGRET,
  )


def _able(
  compare: Mapping[str, learners.Learner],
) -> dict[str, learners.Learner]:
  there = importlib.util.find_spec("sklearn") is not None
  return {name: one for name, one in compare.items() if there or name != "svm"}


def _cells(timed: Sequence[Timed], first: int) -> list[cells.Cell]:
  """Cells of every other block of calls; the caller tells disturbed ones.

  Blocks, not calls: who begins after a pause is not as fast as who goes on.
  """
  fields = ("collective", "algorithm", "size", "wrong")
  return [
    cell
    for one in timed
    if one.rows
    for cell in cells.read(
      [
        {name: getattr(row, name) for name in fields}
        | {"times_us": (1e6 * row.blocks[first::2]).ravel().tolist()}
        for row in _ours(one)
      ],
      one.grid,
    )
  ]


def _ours(timed: Timed) -> list[emulated_links.Pooled]:
  return [row for row in timed.rows if ":" not in row.algorithm]


def _rule(scores: Mapping[str, evaluation.Score]) -> str:
  best = scores["table"]
  return (
    f"rule: at least {100 * TOP1:g} % at a mean regret of at most "
    f"{100 * REGRET:g} %; {best.cells} cells, in {best.tied} of them two or "
    f"more within {100 * _TIE:g} %, which count alike"
  )


_TITLES = {
  "table": "the dispatcher's table",
  "svm": "an SVM as in the paper",
  "model": "the cost model",
  "static": "the best static choice",
  "timed again": "who times it again, with that noise",
}


def _words(scores: Mapping[str, evaluation.Score]) -> str:
  return "; ".join(
    f"{title} {100 * scores[name].top1:.0f} % at "
    f"{100 * scores[name].mean_regret:.2f} % regret "
    f"({100 * scores[name].worst_regret:.0f} at worst)"
    for name, title in _TITLES.items()
    if name in scores
  )


def _dashed(collective: sched.Collective) -> str:
  return collective.replace("_", "-")
