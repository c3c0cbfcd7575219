"""How well a choice does where nothing was timed: whole blocks held out."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from collectives import schedule as sched
from collectives.dispatch import cells as cells_lib
from collectives.dispatch import learners, svm, table

#: Those that `evaluate` compares, but for those that look at what is held out.
LEARNERS: dict[str, learners.Learner] = {
  "table": table.learn,
  "svm": svm.learn,
  "model": learners.model,
  "static": learners.static,
}
#: The same where `"xla"` is gloo, which the cost model knows.
GLOO_LEARNERS = LEARNERS | {
  "model": functools.partial(learners.model, gloo=True)
}


@dataclasses.dataclass(frozen=True)
class Score:
  """How one way to choose does over all cells, each held out once.

  Attributes:
    cells: how many.
    tied: in how many of them another algorithm is as fast as the best, or
      slower by no more than `tie`.
    top1: share of cells where the choice is the best, or tied with it.
    strict: share of cells where it is the best.
    mean_regret: how much longer than the best it takes, as a share, on average.
    worst_regret: the same at most.
  """

  cells: int
  tied: int
  top1: float
  strict: float
  mean_regret: float
  worst_regret: float


def evaluate(
  collective: sched.Collective,
  timed: Sequence[cells_lib.Cell],
  truth: Sequence[cells_lib.Cell],
  *,
  block: tuple[int, int] = (2, 2),
  tie: float = 0.01,
  compare: Mapping[str, learners.Learner] = LEARNERS,
) -> dict[str, Score]:
  """Holds out one block of cells after another, learns from the rest, chooses.

  A block is all that was timed for `block[0]` neighbouring numbers of nodes and
  `block[1]` neighbouring sizes. Those at the edge ask for extrapolation.

  Args:
    collective: what was timed.
    timed: what is learned from, with noise.
    truth: the same cells without it, or by other repeats; regrets are of these.
    block: how many numbers of nodes, and sizes.
    tie: see `Score.tied`.
    compare: what learns.

  Returns:
    A score for each of `compare`; for `"timed again"`, which sees the noisy
    times of what is held out; and for `"oracle"`, which sees the truth.

  Raises:
    ValueError: the cells are not the same, or there is one block only.
  """
  if [c.grid for c in timed] != [c.grid for c in truth] or any(
    a.nbytes != b.nbytes for a, b in zip(timed, truth, strict=True)
  ):
    raise ValueError("truth: got other grids or sizes, expected those timed")
  chosen: dict[str, dict[int, str]] = {
    name: {} for name in (*compare, "timed again", "oracle")
  }
  for held in blocks(truth, block):
    rest = [cell for i, cell in enumerate(timed) if i not in held]
    if not rest:
      raise ValueError("block: got all cells in one, expected two or more")
    for name, learn in compare.items():
      choose = learn(collective, rest)
      for i in held:
        chosen[name][i] = choose(truth[i].grid, truth[i].nbytes)
    for i in held:
      chosen["timed again"][i] = timed[i].best
      chosen["oracle"][i] = truth[i].best
  return {name: score(truth, names, tie) for name, names in chosen.items()}


def blocks(
  cells: Sequence[cells_lib.Cell], block: tuple[int, int]
) -> Iterator[frozenset[int]]:
  """Yields the cells' numbers, block by block.

  Example:
    >>> cells = [cells_lib.Cell(sched.Grid(n), size, {"ring": 1.0})
    ...   for n in (2, 4) for size in (8, 16, 32)]
    >>> [sorted(one) for one in blocks(cells, (1, 2))]
    [[0, 1], [2], [3, 4], [5]]
  """

  def groups(values, length):
    ordered = sorted(set(values))
    return {value: i // length for i, value in enumerate(ordered)}

  rows = groups((cell.grid.nodes for cell in cells), block[0])
  columns = groups((cell.nbytes for cell in cells), block[1])
  places = [(rows[cell.grid.nodes], columns[cell.nbytes]) for cell in cells]
  order = sorted(range(len(cells)), key=places.__getitem__)
  for _, group in itertools.groupby(order, key=places.__getitem__):
    yield frozenset(group)


def score(
  truth: Sequence[cells_lib.Cell], names: Mapping[int, str], tie: float
) -> Score:
  """Compares choices, by number of the cell, with the truth."""
  regrets = np.array([cell.regret(names[i]) for i, cell in enumerate(truth)])
  near = [
    sum(cell.regret(name) <= tie for name in cell.seconds) for cell in truth
  ]
  best = [cell.best == names[i] for i, cell in enumerate(truth)]
  return Score(
    cells=len(truth),
    tied=sum(count > 1 for count in near),
    top1=float((regrets <= tie).mean()),
    strict=float(np.mean(best)),
    mean_regret=float(regrets.mean()),
    worst_regret=float(regrets.max()),
  )
