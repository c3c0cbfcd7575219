"""From runs of agents to the shares that claims and figures share."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from scipy import stats

from experiments.epicast import cells
from experiments.epicast.agents_study import Outbreaks, Run

Pick = Callable[[cells.Cell], bool]
_Z = 1.959963984540054  # of a 95 % interval
_RESAMPLES = 5_000


class Share(NamedTuple):
  """A share of runs.

  Attributes:
    value: of the runs.
    low: lower end of its interval.
    high: upper end.
    cells: how many cells it is over.
    runs: how many runs.
  """

  value: float
  low: float
  high: float
  cells: int
  runs: int


def several(run: Run) -> bool:
  """Returns whether a run has two waves or more."""
  return run.waves >= 2


def share(outbreaks: Outbreaks, pick: Pick) -> Share:
  """Share of runs with several waves, in cells that are picked.

  The interval takes a cell for one observation, whatever its seeds: they share
  all parameters.

  Args:
    outbreaks: all runs.
    pick: whether a cell counts.
  """
  by_cell = [
    np.mean([several(run) for run in runs])
    for cell, runs in outbreaks.cells.items()
    if pick(cell)
  ]
  value = float(np.mean(by_cell)) if by_cell else 0.0
  number = sum(
    len(runs) for cell, runs in outbreaks.cells.items() if pick(cell)
  )
  low, high = wilson(value, max(len(by_cell), 1))
  return Share(value, low, high, len(by_cell), number)


def wilson(share: float, number: int) -> tuple[float, float]:
  """The 95 % interval of Wilson for a share of observations.

  Args:
    share: observed.
    number: of observations; the share need not be a multiple of its inverse.

  References:
    Wilson, Probable inference, the law of succession, and statistical
    inference, JASA 22, 1927.

  Example:
    >>> [round(end, 3) for end in wilson(0.0, 36)]
    [0.0, 0.096]
  """
  weight = _Z**2 / number
  middle = (share + weight / 2) / (1 + weight)
  spread = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
  return max(0.0, middle - spread), min(1.0, middle + spread)


def mean_interval(
  differences: Sequence[float] | np.ndarray, seed: int
) -> tuple[float, float]:
  """A 95 % bootstrap interval of a mean; the value itself if all are equal.

  Args:
    differences: one for each observation.
    seed: of the resampling.
  """
  values = np.asarray(differences, float)
  if np.ptp(values) == 0:
    return float(values[0]), float(values[0])
  found = stats.bootstrap(
    (values,),
    np.mean,
    n_resamples=_RESAMPLES,
    method="percentile",
    rng=np.random.default_rng(seed),
  ).confidence_interval
  return float(found.low), float(found.high)


def paired(
  outbreaks: Outbreaks, setting: str, field: str, high: float, low: float
) -> np.ndarray:
  """Differences in the share of several waves between two values of a field.

  Args:
    outbreaks: all runs.
    setting: whose cells count.
    field: of `cells.Cell`.
    high: the value whose share is the first.
    low: the value whose share is taken away.

  Returns:
    One for each pair of cells that differ in nothing else.
  """
  differences, change = [], cast(dict[str, Any], {field: low})
  for cell, runs in outbreaks.cells.items():
    if cell.setting == setting and getattr(cell, field) == high:
      other = outbreaks.cells[cell._replace(**change)]
      pairs = zip(runs, other, strict=True)
      differences.append(
        np.mean([float(several(a)) - float(several(b)) for a, b in pairs])
      )
  return np.array(differences)


def table(
  outbreaks: Outbreaks, pick: Pick, rows: str, columns: str
) -> tuple[list[float], list[float], np.ndarray]:
  """Shares of several waves over two fields, averaged over all others.

  Args:
    outbreaks: all runs.
    pick: whether a cell counts.
    rows: a field of `cells.Cell`.
    columns: another one.

  Returns:
    Values of both fields, and shares `[rows, columns]`.
  """
  found: dict[tuple[float, float], list[bool]] = {}
  for cell, runs in outbreaks.cells.items():
    if pick(cell):
      place = getattr(cell, rows), getattr(cell, columns)
      found.setdefault(place, []).extend(several(run) for run in runs)
  down = sorted({place[0] for place in found})
  across = sorted({place[1] for place in found})
  shares = [[float(np.mean(found[r, c])) for c in across] for r in down]
  return down, across, np.array(shares)


def quantiles(curves: Sequence[np.ndarray]) -> np.ndarray:
  """The 5, 50 and 95 % quantiles of each day over runs, `[3, days]`."""
  return np.quantile(np.stack(curves), (0.05, 0.5, 0.95), axis=0)


def middle(outbreaks: Outbreaks, setting: str, cut: float) -> cells.Cell:
  """The cell in the middle of a setting's grid, by order alone."""
  found = [
    cell
    for cell in outbreaks.cells
    if cell.setting == setting and cell.cut == cut
  ]
  return found[len(found) // 2]
