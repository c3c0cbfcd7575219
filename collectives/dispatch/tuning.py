"""From timings to choices."""

import itertools
import math
from collections.abc import Iterator, Sequence

from collectives import algorithms, cost_model
from collectives import schedule as sched
from collectives.dispatch import cells as cells_lib
from collectives.dispatch import choices, learners

#: How much longer than the best a choice may take where that was timed: less
#: than the 5 % that users are promised, since timings have noise.
MARGIN = 0.02

_PER_OCTAVE = 4  # sizes at which a learner is asked


def train(
  collective: sched.Collective,
  cells: Sequence[cells_lib.Cell],
  learner: learners.Learner,
  *,
  dtypes: Sequence[str],
  gloo: bool,
) -> choices.Part:
  """Learns the choices for one collective, and writes them out as ranges.

  Where a choice's own timing is more than `MARGIN` above the fastest, that one
  is taken: what learns may be wrong about a cell that it saw.

  Args:
    collective: what was timed.
    cells: the timings.
    learner: what learns from them.
    dtypes: for which they hold.
    gloo: whether `"xla"` is gloo, which the cost model knows; otherwise that
      chooses among the other algorithms.

  Raises:
    ValueError: there are no cells, or an algorithm is not known.
  """
  if not cells:
    raise ValueError("cells: got none, expected some to learn from")
  names = sorted({name for cell in cells for name in cell.seconds})
  for name in names:
    if name != "xla":
      algorithms.find(name, collective)
  candidates = [name for name in names if gloo or name != "xla"]
  machine: tuple[float, ...] = ()
  if candidates:
    fitted = learners.fit_machine(collective, cells, candidates)
    machine = _constants(fitted)
  choose = _checked(learner(collective, cells), cells)
  ranges = [
    choices.Range(*grid, sizes[0], _until(choose, grid, sizes))
    for grid, sizes in _lattice(cells)
  ]
  return choices.Part(tuple(dtypes), tuple(ranges), tuple(candidates), machine)


def _checked(
  choose: learners.Chooser, cells: Sequence[cells_lib.Cell]
) -> learners.Chooser:
  timed = {(cell.grid, cell.nbytes): cell for cell in cells}

  def checked(grid, nbytes):
    name = choose(grid, nbytes)
    cell = timed.get((grid, nbytes))
    return cell.best if cell and cell.regret(name) > MARGIN else name

  return checked


def _constants(machine: cost_model.Machine) -> tuple[float, ...]:
  return (
    machine.alpha_inter,
    machine.beta_inter,
    machine.alpha_local,
    machine.beta_local,
    machine.gamma,
    machine.fixed,
  )


def _lattice(
  cells: Sequence[cells_lib.Cell],
) -> Iterator[tuple[sched.Grid, list[int]]]:
  """Yields the grids that were timed and those between, with their sizes."""
  sizes: dict[sched.Grid, set[int]] = {}
  for cell in cells:
    sizes.setdefault(cell.grid, set()).add(cell.nbytes)
  for _, group in itertools.groupby(sorted(sizes, key=_kind), key=_kind):
    grids = sorted(group)
    for one in grids:
      yield one, sorted(sizes[one])
    for low, high in itertools.pairwise(grids):
      both = sizes[low] | sizes[high]
      least = max(min(sizes[low]), min(sizes[high]))
      most = min(max(sizes[low]), max(sizes[high]))
      shared = sorted(size for size in both if least <= size <= most)
      for nodes in _between(low.nodes, high.nodes) if shared else ():
        yield sched.Grid(nodes, low.local), shared


def _kind(grid: sched.Grid) -> tuple[int, bool]:
  return grid.local, choices.folds(grid.nodes)


def _between(low: int, high: int) -> list[int]:
  """Powers of two between two, or four numbers an octave between others."""
  if not choices.folds(low):
    return [low << i for i in range(1, (high // low).bit_length() - 1)]
  count = max(math.ceil(4 * math.log2(high / low)), 1)
  steps = {round(low * (high / low) ** (i / count)) for i in range(1, count)}
  return [n for n in sorted(steps - {low, high}) if choices.folds(n)]


def _until(
  choose: learners.Chooser, grid: sched.Grid, sizes: Sequence[int]
) -> tuple[tuple[int, str], ...]:
  """Asks at all sizes and at some between; the middle parts two choices."""
  asked = sorted({*sizes, *_subdivided(sizes)})
  named = [choose(grid, size) for size in asked]
  ends = [
    (math.isqrt(asked[i] * asked[i + 1]), named[i])
    for i in range(len(asked) - 1)
    if named[i] != named[i + 1]
  ]
  return (*ends, (asked[-1], named[-1]))


def _subdivided(sizes: Sequence[int]) -> Iterator[int]:
  for low, high in itertools.pairwise(sizes):
    count = max(math.ceil(_PER_OCTAVE * math.log2(high / low)), 1)
    for i in range(1, count):
      yield round(low * (high / low) ** (i / count))
