r"""What a schedule costs on two levels of links, by latencies and bytes.

$T = T_0 + s_e\alpha_e + b_e\beta_e + s_i\alpha_i + b_i\beta_i + r\gamma$, where
the counts come from the schedule itself and the constants from a fit or from
the data sheet of a machine. Steps follow one another; nothing overlaps but the
messages of one step. `collectives.simulator` lets ranks run ahead.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import optimize

from collectives import algorithms
from collectives import schedule as sched

#: What gloo, XLA's transport on CPUs, runs for `algorithm="xla"`.
GLOO: dict[sched.Collective, str] = {
  "all_reduce": "ring",
  "all_gather": "ring",
  "reduce_scatter": "recursive",
}


@dataclasses.dataclass(frozen=True)
class Terms:
  """What there is to do, counted step by step.

  Attributes:
    inter_steps: steps in which any message leaves its node.
    inter_bytes: bytes through the busiest node's port (in or out), summed over
      those steps: what the ranks of a node send at once shares its port.
    local_steps: the other steps.
    local_bytes: the most that a rank sends or receives, summed over those.
    reduced_bytes: the most that a rank reduces, summed over all steps.
  """

  inter_steps: int
  inter_bytes: float
  local_steps: int
  local_bytes: float
  reduced_bytes: float


@dataclasses.dataclass(frozen=True)
class Machine:
  """Constants of the model.

  Attributes:
    alpha_inter: seconds a step between nodes.
    beta_inter: seconds a byte through a node's port.
    alpha_local: seconds a step within nodes.
    beta_local: seconds a byte to or from a rank within its node.
    gamma: seconds a byte reduced.
    fixed: seconds a call.
  """

  alpha_inter: float
  beta_inter: float
  alpha_local: float
  beta_local: float
  gamma: float = 0.0
  fixed: float = 0.0

  def predict(self, terms: Terms) -> float:
    """Returns the seconds that `terms` take."""
    return float(np.dot(_row(terms), dataclasses.astuple(self)))


def count(
  schedule: sched.Schedule,
  nbytes: float | int,
  grid: sched.Grid | None = None,
) -> Terms:
  """Counts a schedule's steps and bytes.

  Args:
    schedule: what runs. Chunks that run in the same tick share its latency.
    nbytes: bytes of the whole buffer: gathered in an all-gather, not yet
      scattered in a reduce-scatter.
    grid: which ranks really share a node, for schedules that do not know it
      (those of flat algorithms).

  Raises:
    ValueError: if `grid` has another number of ranks.

  Example:
    >>> two = algorithms.find("recursive_doubling", "all_reduce").schedule(
    ...   "all_reduce", sched.Grid(4))
    >>> count(two, 1000, sched.Grid(2, 2))
    Terms(inter_steps=1, inter_bytes=2000.0, local_steps=1, local_bytes=1000...
  """
  grid = grid or schedule.grid
  if grid.size != schedule.grid.size:
    raise ValueError(
      f"grid: got {grid.nodes} x {grid.local} ranks, expected "
      f"{schedule.grid.size}, those of the schedule {schedule.name}"
    )
  each = nbytes / schedule.chunks / schedule.slots
  loads = np.array([_loads(step, grid) for step in schedule.steps])
  totals = np.zeros(5)
  for tick in schedule.timeline():
    node, local, reduced = loads[[step for _, step in tick]].sum(0) * each
    between = node > 0
    totals += (
      between,
      node,
      not between,
      0 if between else local,
      reduced,
    )
  steps, inter, local_steps, local, reduced = totals.tolist()
  return Terms(int(steps), inter, int(local_steps), local, reduced)


def _loads(step: sched.Step, grid: sched.Grid) -> tuple[float, ...]:
  """Slots through the busiest node, of the busiest rank, and reduced."""
  src, dst, slots, reduced = sched.columns(step)
  between = src // grid.local != dst // grid.local

  def busiest(place, weights):
    return float(np.bincount(place, weights).max())

  return (
    max(busiest(at // grid.local, slots * between) for at in (src, dst)),
    max(busiest(at, slots * ~between) for at in (src, dst)),
    busiest(dst, slots * reduced),
  )


def terms(
  algorithm: str,
  collective: sched.Collective,
  grid: sched.Grid,
  nbytes: float | int,
  chunks: int = 1,
) -> Terms:
  """Counts what an algorithm does, by its name.

  Args:
    algorithm: a name, or `"xla"` for what gloo does.
    collective: what it computes.
    grid: the ranks, and which of them share a node.
    nbytes: bytes of the whole buffer, as in `count`.
    chunks: pieces that follow one another.

  Example:
    >>> terms("nvrar", "all_reduce", sched.Grid(4, 2), 1024)
    Terms(inter_steps=2, inter_bytes=2048.0, local_steps=2, local_bytes=1024...
  """
  name = GLOO[collective] if algorithm == "xla" else algorithm
  found = algorithms.find(name, collective)
  return count(found.schedule(collective, grid, chunks), nbytes, grid)


def fit(counted: Sequence[Terms], seconds: Sequence[float]) -> Machine:
  """Finds the constants that explain measured times best.

  Least squares of relative errors, with no constant below zero. What no
  measurement tells apart shares its cost in any way; what none contains is 0.

  Args:
    counted: what ran.
    seconds: how long each took.

  Raises:
    ValueError: if the two differ in length, there are none, or a time is not
      above zero.
  """
  times = np.asarray(seconds, float)
  if not len(counted) == len(times) > 0 or not (times > 0).all():
    raise ValueError(
      f"fit: got {len(counted)} counts and {len(times)} times, expected as "
      "many of both, at least one, and times above zero"
    )
  rows = np.array([_row(one) for one in counted]) / times[:, None]
  scale = rows.max(0)
  scale[scale == 0] = 1  # a column of zeros is left at zero
  found, _ = optimize.nnls(rows / scale, np.ones(len(times)))
  return Machine(*(found / scale).tolist())


def _row(one: Terms) -> np.ndarray:
  return np.array([*dataclasses.astuple(one), 1.0])
