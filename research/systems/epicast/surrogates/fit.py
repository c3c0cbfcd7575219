"""Fits a surrogate to a daily curve, and says where it fails."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy import ndimage, optimize
from scipy.stats import qmc

from research.runs import errors
from research.systems.epicast import waves
from research.systems.epicast.surrogates import parameters as params
from research.systems.epicast.surrogates import solve
from research.systems.epicast.surrogates.model import Model

Daily = Literal["new_infections", "new_symptoms"]
Bounds = Mapping[str, tuple[float, float]]
_WEEK = 7
_INSIDE = 1e-6  # starts keep this far from a bound, of its range
_TOLERANCE = 1e-10
_ODD = 4.0  # standard deviations of a week's mean that no good fit reaches


class Misfit(NamedTuple):
  """Days on end on which the model is off.

  Attributes:
    first: day whose week is off.
    last: the last such day.
    mean: residual, in standard deviations; above 0 the model has too many.
  """

  first: int
  last: int
  mean: float


@dataclasses.dataclass(frozen=True)
class Fit:
  """A fitted surrogate.

  Attributes:
    parameters: found.
    errors: standard error of each fitted parameter if residuals are noise of
      counts; infinite where it exceeds the range of the bounds.
    curve: of the model, shares of people a day.
    residuals: model minus observed, in standard deviations of counts.
    dispersion: sum of squared residuals over degrees of freedom: about 1 if
      nothing but noise of counts is left.
    converged: the search ended by itself.
    at_bounds: fitted parameters that ended at a bound.
    misfits: weeks on end whose mean residual is over 4 standard deviations.
  """

  parameters: params.Parameters
  errors: dict[str, float]
  curve: np.ndarray
  residuals: np.ndarray
  dispersion: float
  converged: bool
  at_bounds: tuple[str, ...]
  misfits: tuple[Misfit, ...]


def fit(
  model: Model,
  start: params.Parameters,
  bounds: Bounds,
  observed: Float[np.ndarray, " days"],
  *,
  people: int,
  curve: Daily = "new_infections",
  refined: int = 3,
) -> Fit:
  """Fits some parameters by bounded least squares with exact derivatives.

  Residuals are 2 (√(N m + 3/8) − √(N o + 3/8)) of modelled and observed shares
  m and o of N people: for counts from a Poisson distribution they have a
  standard deviation of 1. The search starts at the best few of 256 points: the
  given one, and others spread over the bounds.

  Args:
    model: what to fit.
    start: first guess, and the values that stay.
    bounds: lowest and highest value of each parameter to fit. One whose lowest
      value is above 0 is searched on a logarithmic scale.
    observed: share of people a day; its first day is the model's first.
    people: how many there are.
    curve: what was observed.
    refined: how many starting points are followed.

  Returns:
    The best fit.

  Raises:
    UserError: bounds of an unknown parameter or in the wrong order, no more
      days than parameters, or observed values that are no shares.

  References:
    Anscombe, The transformation of Poisson data, Biometrika 1948;
    `scipy.optimize.least_squares`.
  """
  _require(bounds, observed)
  problem = _Problem(model, start, bounds, observed, people, curve)
  with jax.enable_x64(True):
    found = [problem.refine(point) for point in problem.candidates(refined)]
    return problem.report(min(found, key=lambda one: one.cost))


class _Problem:
  """Residuals of a model at points of a box that the search sees as [0, 1]."""

  def __init__(
    self,
    model: Model,
    start: params.Parameters,
    bounds: Bounds,
    observed: np.ndarray,
    people: int,
    curve: Daily,
  ):
    self._model, self._start, self._curve = model, start, curve
    self._people, self._days = people, len(observed)
    self._observed = _stabilised(people * observed)
    self._box = _Box(bounds)

  def candidates(self, number: int) -> np.ndarray:
    """The given start, and the best others, `[number, parameters]`."""
    names = self._box.names
    given = np.array([getattr(self._start, name) for name in names], float)
    spread = qmc.LatinHypercube(len(names), rng=0).random(solve.LANES)
    changes = dict(zip(names, self._box.values(spread).T, strict=True))
    states = solve.batch(self._model, self._start, changes, days=self._days)
    misses = self._modelled(states) - self._observed
    best = np.argsort((misses**2).sum(1), kind="stable")[: number - 1]
    return np.vstack([self._box.point(given), spread[best]])

  def refine(self, point: np.ndarray) -> optimize.OptimizeResult:
    """Follows the residuals down from a point."""
    last = functools.lru_cache(1)(lambda b: self._residuals(np.frombuffer(b)))
    return optimize.least_squares(
      lambda point: last(point.tobytes())[0],
      np.clip(point, _INSIDE, 1 - _INSIDE),
      jac=lambda point: last(point.tobytes())[1],
      bounds=(0, 1),
      xtol=_TOLERANCE,
      ftol=_TOLERANCE,
      gtol=_TOLERANCE,
    )

  def report(self, found: optimize.OptimizeResult) -> Fit:
    """Says what a search has found."""
    box, states = self._box, self._tangents(found.x)[0]
    ends = np.minimum(found.x, 1 - found.x) < 10 * _INSIDE
    freedom = self._days - len(box.names)
    return Fit(
      parameters=self._at(found.x),
      errors=dict(zip(box.names, box.errors(found), strict=True)),
      curve=waves.curve(self._model.by_stage(states), self._curve),
      residuals=found.fun,
      dispersion=float((found.fun**2).sum() / freedom),
      converged=bool(found.success),
      at_bounds=tuple(np.array(box.names)[ends].tolist()),
      misfits=_misfits(found.fun),
    )

  def _at(self, point: np.ndarray) -> params.Parameters:
    values = self._box.values(point).tolist()
    changes = dict(zip(self._box.names, values, strict=True))
    return dataclasses.replace(self._start, **changes)

  def _tangents(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names = self._box.names
    return solve.tangents(self._model, self._at(point), names, days=self._days)

  def _modelled(self, states: np.ndarray) -> np.ndarray:
    shares = waves.curve(self._model.by_stage(states), self._curve)
    return _stabilised(self._people * shares)

  def _residuals(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals and their derivatives by the point."""
    states, slopes = self._tangents(point)
    slopes = self._model.by_stage(np.moveaxis(slopes, -1, 0))
    slopes = waves.tally(slopes, self._curve).T * self._box.slopes(point)
    root = self._modelled(states)
    slopes *= (2 * self._people / root)[:, None]
    return root - self._observed, slopes


class _Box:
  """Bounds of parameters, logarithmic where the lower one is above 0."""

  def __init__(self, bounds: Bounds):
    self.names = tuple(bounds)
    self._bounds = np.array([*bounds.values()], float).T
    self._log = self._bounds[0] > 0
    self._ends = self._scaled(self._bounds)

  def _scaled(self, values: np.ndarray) -> np.ndarray:
    return np.where(self._log, np.log(np.where(self._log, values, 1)), values)

  def values(self, points: np.ndarray) -> np.ndarray:
    low, high = self._ends
    scaled = low + points * (high - low)
    values = np.where(self._log, np.exp(scaled), scaled)
    return np.clip(values, *self._bounds)  # exp(log(x)) may be just outside

  def point(self, values: np.ndarray) -> np.ndarray:
    low, high = self._ends
    return (self._scaled(np.clip(values, *self._bounds)) - low) / (high - low)

  def slopes(self, point: np.ndarray) -> np.ndarray:
    """Derivatives of the values by the point."""
    low, high = self._ends
    return (high - low) * np.where(self._log, self.values(point), 1)

  def errors(self, found: optimize.OptimizeResult) -> list[float]:
    """Standard errors of the values, infinite if wider than the bounds."""
    _, sizes, ways = np.linalg.svd(found.jac, full_matrices=False)
    sizes = np.maximum(sizes, 1e-12)
    errors = np.linalg.norm(ways / sizes[:, None], axis=0)
    return np.where(errors < 1, errors * self.slopes(found.x), np.inf).tolist()


def _stabilised(counts: np.ndarray) -> np.ndarray:
  return 2 * np.sqrt(np.maximum(counts, 0) + 3 / 8)


def _misfits(residuals: np.ndarray) -> tuple[Misfit, ...]:
  week = ndimage.uniform_filter1d(residuals, _WEEK) * np.sqrt(_WEEK)
  labels, number = ndimage.label(np.abs(week) > _ODD)
  stretches = [np.flatnonzero(labels == k + 1) for k in range(number)]
  return tuple(
    Misfit(int(days[0]), int(days[-1]), float(residuals[days].mean()))
    for days in stretches
  )


def _require(bounds: Bounds, observed: np.ndarray) -> None:
  for name, (low, high) in bounds.items():
    params.index(name)
    if not low < high:
      raise errors.UserError(
        f"bounds of {name}: got {low:g} to {high:g}; expected the lower first"
      )
  if len(observed) <= max(len(bounds), _WEEK):
    raise errors.UserError(
      f"got {len(observed)} days for {len(bounds)} parameters; expected more "
      "days than parameters, and more than a week"
    )
  if not ((observed >= 0) & (observed <= 1)).all():
    raise errors.UserError(
      "got observed values outside 0 to 1; expected shares of people a day: "
      "divide the counts by the people"
    )
