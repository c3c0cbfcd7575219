"""What learns to choose, and the two that others have to beat."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from collectives import algorithms, cost_model
from collectives import schedule as sched
from collectives.dispatch import cells as cells_lib
from collectives.dispatch import counting

#: From a grid and the bytes of the whole buffer to an algorithm.
Chooser = Callable[[sched.Grid, int], str]
#: Learns a chooser from timings of one collective.
Learner = Callable[[sched.Collective, Sequence[cells_lib.Cell]], Chooser]


def able(cells: Sequence[cells_lib.Cell], grid: sched.Grid) -> tuple[str, ...]:
  """Which algorithms were timed with so many ranks a node, or at all."""
  same = [cell for cell in cells if cell.grid.local == grid.local]
  names = [set(cell.seconds) for cell in same or cells]
  both = set.intersection(*names)
  return tuple(name for name in cells[0].seconds if name in both) or tuple(
    sorted(both)
  )


def static(
  collective: sched.Collective, cells: Sequence[cells_lib.Cell]
) -> Chooser:
  """Takes the one algorithm whose mean regret is least."""
  del collective
  names = set.intersection(*(set(cell.seconds) for cell in cells))
  best = min(
    sorted(names), key=lambda name: sum(cell.regret(name) for cell in cells)
  )
  return lambda *_: best


def model(
  collective: sched.Collective,
  cells: Sequence[cells_lib.Cell],
  *,
  gloo: bool = False,
) -> Chooser:
  """Takes what the cost model says, its constants fitted to the cells.

  Args:
    collective: what was timed.
    cells: the timings.
    gloo: whether `"xla"` is gloo; otherwise the model does not know what
      `"xla"` does, and never takes it.
  """
  known = set(algorithms.names(collective)) | ({"xla"} if gloo else set())
  machine = fit_machine(collective, cells, known)

  def choose(grid, nbytes):
    return min(
      (name for name in able(cells, grid) if name in known),
      key=lambda name: machine.predict(
        counting.terms(name, collective, grid, nbytes)
      ),
    )

  return choose


def fit_machine(
  collective: sched.Collective,
  cells: Sequence[cells_lib.Cell],
  names: Collection[str],
) -> cost_model.Machine:
  """Fits the cost model's constants to the times of some algorithms."""
  pairs = [
    (counting.terms(name, collective, cell.grid, cell.nbytes), time)
    for cell in cells
    for name, time in cell.seconds.items()
    if name in names
  ]
  return cost_model.fit(*zip(*pairs, strict=True))


def features(cells: Sequence[tuple[sched.Grid, int]]) -> np.ndarray:
  """`[n, 4]`: logarithms of bytes, nodes and ranks a node; whether it folds."""
  return np.array(
    [
      (
        *np.log2([nbytes, grid.nodes, grid.local]),
        grid.nodes & (grid.nodes - 1) != 0,
      )
      for grid, nbytes in cells
    ],
    float,
  )
