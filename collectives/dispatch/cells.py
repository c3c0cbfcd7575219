"""Timings to learn from: one cell for each grid and size."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from collectives import algorithms
from collectives import schedule as sched


@dataclasses.dataclass(frozen=True)
class Cell:
  """How long each algorithm takes for one grid and size.

  Attributes:
    grid: the ranks.
    nbytes: bytes of the whole buffer.
    seconds: by algorithm; any names do, for those who only compare.
  """

  grid: sched.Grid
  nbytes: int
  seconds: Mapping[str, float]

  @property
  def best(self) -> str:
    """The fastest; of equals, the first."""
    return min(self.seconds, key=self.seconds.__getitem__)

  def regret(self, name: str) -> float:
    """How much longer than the fastest it takes, as a share of that."""
    return self.seconds[name] / min(self.seconds.values()) - 1


def read(
  rows: Sequence[Mapping[str, Any]],
  grid: sched.Grid,
  part: slice | None = None,
) -> list[Cell]:
  """Makes cells of what `bench_collectives` measured for one collective.

  Args:
    rows: as it writes them, as dicts.
    grid: the nodes and ranks that ran.
    part: which iterations count, so that others are left to test with.

  Returns:
    A cell for each size, of medians. On one rank a node the algorithms of two
    levels are left out: each is then another one's equal.

  Raises:
    ValueError: a row is wrong, disturbed or of another collective, or sizes
      lack an algorithm that others have.

  Example:
    >>> row = {"collective": "all_reduce", "algorithm": "ring", "size": 64,
    ...   "wrong": 0, "times_us": [3.0, 2.0, 4.0]}
    >>> read([row], sched.Grid(2))
    [Cell(grid=Grid(nodes=2, local=1), nbytes=64, seconds={'ring': 3e-06})]
  """
  seconds: dict[int, dict[str, float]] = {}
  for row in rows:
    _check(row, rows[0])
    name = row["algorithm"]
    if grid.local == 1 and hierarchical(name):
      continue
    times = row["times_us"][part or slice(None)]
    seconds.setdefault(row["size"], {})[name] = statistics.median(times) * 1e-6
  names = {tuple(sorted(timed)) for timed in seconds.values()}
  if len(names) > 1:
    raise ValueError(
      f"rows: got algorithms {sorted(names)}, expected the same at all sizes"
    )
  return [Cell(grid, size, timed) for size, timed in sorted(seconds.items())]


def hierarchical(name: str) -> bool:
  """Whether an algorithm needs two levels."""
  found = algorithms.ALGORITHMS.get(name)
  return found is not None and found.hierarchical


def noisy(
  cells: Sequence[Cell],
  rng: np.random.Generator,
  *,
  spread: float = 0.05,
  repeats: int = 5,
) -> list[Cell]:
  """Times cells again, as medians of disturbed repeats.

  Args:
    cells: the truth.
    rng: random numbers.
    spread: standard deviation of a repeat's logarithm. One repeat of twenty
      besides takes up to three times as long.
    repeats: how many there are of each.
  """
  result = []
  for cell in cells:
    shape = (repeats, len(cell.seconds))
    factor = np.exp(spread * rng.standard_normal(shape))
    late = rng.random(shape) < 0.05
    factor *= np.where(late, rng.uniform(1, 3, shape), 1)
    factors = np.median(factor, axis=0).tolist()
    pairs = zip(cell.seconds.items(), factors, strict=True)
    timed = {name: time * f for (name, time), f in pairs}
    result.append(dataclasses.replace(cell, seconds=timed))
  return result


def _check(row: Mapping[str, Any], first: Mapping[str, Any]) -> None:
  what = f"{row['algorithm']} at {row['size']} bytes"
  if row["wrong"]:
    raise ValueError(
      f"rows: got {row['wrong']} wrong elements for {what}, expected 0"
    )
  if row.get("contended"):
    raise ValueError(
      f"rows: got times of a busy machine for {what}, expected undisturbed "
      "ones; time it again"
    )
  if row["collective"] != first["collective"]:
    raise ValueError(
      f"rows: got {row['collective']} and {first['collective']}, expected one "
      "collective"
    )
