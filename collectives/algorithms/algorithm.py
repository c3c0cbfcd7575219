"""What an algorithm is: a schedule for every number of ranks, and its cost."""

import dataclasses
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

from collectives import schedule as sched


class Cost(NamedTuple):
  """Steps and bytes of one chunk.

  Attributes:
    steps: steps between nodes.
    sent: the most that a rank sends to other nodes, as a share of the buffer
      (gathered in an all-gather, not yet scattered in a reduce-scatter).
    local_steps: steps within nodes.
    local_sent: the most that a rank sends within its node, as such a share.
  """

  steps: int
  sent: Fraction
  local_steps: int = 0
  local_sent: Fraction = Fraction(0)

  def then(self, other: "Cost") -> "Cost":
    """The cost of one after the other, if the same rank is the busiest."""
    return Cost(
      self.steps + other.steps,
      self.sent + other.sent,
      self.local_steps + other.local_steps,
      self.local_sent + other.local_sent,
    )


class Form(NamedTuple):
  """One collective by one algorithm.

  Attributes:
    build: makes the phases for a grid, with the number of slots.
    cost: the closed formula, which the verifier checks.
    formula: the same for readers: p ranks or N nodes of G, buffer of M bytes.
  """

  build: Callable[[sched.Grid], tuple[int, tuple[sched.Phase, ...]]]
  cost: Callable[[sched.Grid], Cost]
  formula: str


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """A way to compute collectives.

  Attributes:
    name: its name.
    forms: what it computes.
    hierarchical: it needs the two axes (node, local).
  """

  name: str
  forms: Mapping[sched.Collective, Form]
  hierarchical: bool = False

  def schedule(
    self, collective: sched.Collective, grid: sched.Grid, chunks: int = 1
  ) -> sched.Schedule:
    """Builds the schedule.

    Args:
      collective: one of `forms`.
      grid: the ranks; a flat algorithm takes them in row-major order.
      chunks: pieces that follow one another through the steps.

    Returns:
      The schedule, over a grid of single-rank nodes if the algorithm is flat.
    """
    if not self.hierarchical:
      grid = sched.Grid(grid.size)
    slots, phases = self.forms[collective].build(grid)
    shuffled = (
      self.hierarchical and collective != "all_reduce" and grid.local > 1
    )
    return sched.Schedule(
      self.name, collective, grid, slots, phases, shuffled, chunks
    )


def flat_forms(
  gather: Callable[[int], tuple[sched.Step, ...]],
  gather_cost: Callable[[int], Cost],
  scatter_cost: Callable[[int], Cost],
  formula: Mapping[sched.Collective, str],
) -> dict[sched.Collective, Form]:
  """Makes all three collectives out of an all-gather of single blocks."""

  def all_gather(grid):
    return grid.size, (sched.Phase("gather", "node", gather(grid.size)),)

  def reduce_scatter(grid):
    steps = sched.reverse(gather(grid.size))
    return grid.size, (sched.Phase("scatter", "node", steps),)

  def all_reduce(grid):
    return grid.size, reduce_scatter(grid)[1] + all_gather(grid)[1]

  return {
    "all_gather": Form(
      all_gather, lambda grid: gather_cost(grid.size), formula["all_gather"]
    ),
    "reduce_scatter": Form(
      reduce_scatter,
      lambda grid: scatter_cost(grid.size),
      formula["reduce_scatter"],
    ),
    "all_reduce": Form(
      all_reduce,
      lambda grid: scatter_cost(grid.size).then(gather_cost(grid.size)),
      formula["all_reduce"],
    ),
  }
