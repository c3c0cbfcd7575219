r"""A table of times between whose cells it interpolates, to regret least.

Each algorithm's time is $m_a(x)\,e^{r_a(x)}$: the cost model with constants
fitted to that algorithm, and a correction that is interpolated by kriging (a
Gaussian process) over logarithms of bytes, nodes and ranks a node. Where there
are no cells nearby the correction fades, and the model remains. The choice is
the algorithm whose time has the least expected logarithm; that is the one of
least expected regret, counted in logarithms, since the best is the same for
all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jaxtyping
import numpy as np

from collectives import cost_model
from collectives import schedule as sched
from collectives.dispatch import cells as cells_lib
from collectives.dispatch import counting, learners

_LENGTHS = (
  0.5,
  1.0,
  2.0,
  4.0,
)  # octaves over which corrections resemble each other
_NOISES = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)  # in units of their variance
_LEAST = 1e-12  # variance of what seems to be known exactly

Points = jaxtyping.Float[np.ndarray, "n 4"]


class Kriging(NamedTuple):
  """Corrections at some points, and what they say of others.

  Attributes:
    points: where they are known.
    weights: of each, for others.
    length: octaves over which they resemble each other.
  """

  points: Points
  weights: jaxtyping.Float[np.ndarray, "n"]
  length: float

  def at(self, point: Points) -> float:
    """Returns what is expected at one point."""
    (near,) = _resemblance(point, self.points, self.length)
    return float(near @ self.weights)


def krige(points: Points, values: jaxtyping.Float[np.ndarray, "n"]) -> Kriging:
  """Finds the length and noise under which the values are likeliest.

  Example:
    >>> points = np.array([[x, 0.0, 0.0, 0.0] for x in range(9)])
    >>> known = krige(points, np.sin(points[:, 0] / 2))
    >>> round(known.at(np.array([[2.5, 0.0, 0.0, 0.0]])), 2)  # sin(1.25)
    0.95
  """
  found = []
  for length in _LENGTHS:
    spectrum, basis = np.linalg.eigh(_resemblance(points, points, length))
    turned = basis.T @ values
    for noise in _NOISES:
      scale = np.maximum(spectrum, 0) + noise
      variance = max(float(np.mean(turned**2 / scale)), _LEAST)
      loss = len(values) * np.log(variance) + np.log(scale).sum()
      found.append((loss, Kriging(points, basis @ (turned / scale), length)))
  return min(found, key=lambda one: one[0])[1]


class _Timed(NamedTuple):
  machine: cost_model.Machine
  correction: Kriging


def learn(
  collective: sched.Collective, cells: Sequence[cells_lib.Cell]
) -> learners.Chooser:
  """Fits every algorithm's times.

  Args:
    collective: what was timed.
    cells: the timings.
  """
  names = {name for cell in cells for name in cell.seconds}
  timed = {name: _fit(collective, cells, name) for name in names}

  def choose(grid, nbytes):
    point = learners.features([(grid, nbytes)])

    def logarithm(name):
      machine, correction = timed[name]
      model = machine.predict(counting.terms(name, collective, grid, nbytes))
      return np.log(model) + correction.at(point)

    return min(learners.able(cells, grid), key=logarithm)

  return choose


def _fit(
  collective: sched.Collective, cells: Sequence[cells_lib.Cell], name: str
) -> _Timed:
  own = [cell for cell in cells if name in cell.seconds]
  machine = learners.fit_machine(collective, own, [name])
  ratios = [
    cell.seconds[name]
    / machine.predict(counting.terms(name, collective, cell.grid, cell.nbytes))
    for cell in own
  ]
  points = learners.features([(cell.grid, cell.nbytes) for cell in own])
  return _Timed(machine, krige(points, np.log(ratios)))


def _resemblance(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
  squares = ((a[:, None] - b[None]) ** 2).sum(-1)
  return np.exp(-squares / (2 * length**2))
