"""Waves and sizes of outbreaks over many parameters, and sensitivities."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.runs import errors
from research.systems.epicast import waves
from research.systems.epicast.disease import Stage
from research.systems.epicast.surrogates import parameters as params
from research.systems.epicast.surrogates import solve
from research.systems.epicast.surrogates.model import Model


class Outcomes(NamedTuple):
  """What became of runs, an array each of the runs' shape.

  Attributes:
    waves: their number, by the rule.
    attack: share of people ever infected, those at the start included.
    peak: highest share of people infectious at once.
    peak_day: when that was.
    fearful: highest share of people fearful at once.
  """

  waves: np.ndarray
  attack: np.ndarray
  peak: np.ndarray
  peak_day: np.ndarray
  fearful: np.ndarray


class Diagram(NamedTuple):
  """Outcomes over two parameters.

  Attributes:
    names: of the parameters.
    values: of both; outcomes have the shape `[len(first), len(second)]`.
    outcomes: of the runs.
  """

  names: tuple[str, str]
  values: tuple[np.ndarray, np.ndarray]
  outcomes: Outcomes


class Sensitivities(NamedTuple):
  """Derivatives by parameters.

  Attributes:
    names: of the parameters.
    attack: share of people ever infected.
    peak: highest share of people infectious at the end of a day.
    attack_slopes: of `attack`, by name.
    peak_slopes: of `peak`, by name.
  """

  names: tuple[str, ...]
  attack: float
  peak: float
  attack_slopes: np.ndarray
  peak_slopes: np.ndarray


def run(
  model: Model,
  parameters: params.Parameters,
  changes: params.Values,
  *,
  days: int = 360,
  curve: waves.Curve = "infectious",
  rule: waves.Rule = waves.RULE,
) -> Outcomes:
  """Runs a model for many parameters; memory stays that of 256 runs.

  Args:
    model: what to run.
    parameters: what all runs share.
    changes: by name, what differs: lists of one length.
    days: how long.
    curve: whose waves count.
    rule: what a wave is.

  Returns:
    Outcomes, in the order of the lists.

  Raises:
    UserError: as `solve.batch`.

  Example:
    >>> from research.systems.epicast.surrogates.model import SIR
    >>> weak = params.Parameters(beta=0.1)
    >>> run(SIR, weak, {"beta": [0.1, 0.5]}).waves.tolist()
    [0, 1]
  """
  rows = params.rows(parameters, changes)
  parts = []
  for first in range(0, len(rows), solve.LANES):
    part = rows[first : first + solve.LANES]
    some = dict(zip(params.NAMES, part.T, strict=True))
    states = solve.batch(model, parameters, some, days=days)
    parts.append(_outcomes(model, states, curve, rule))
  return Outcomes(*map(np.concatenate, zip(*parts, strict=True)))


def _outcomes(
  model: Model, states: np.ndarray, curve: waves.Curve, rule: waves.Rule
) -> Outcomes:
  stages = model.by_stage(states)
  ill = waves.curve(stages, "infectious")
  return Outcomes(
    waves=waves.count(waves.curve(stages, curve), rule=rule),
    attack=1 - stages[:, -1, Stage.S],
    peak=ill.max(1),
    peak_day=ill.argmax(1),
    fearful=model.fearful(states).max(1),
  )


def phase_diagram(
  model: Model,
  parameters: params.Parameters,
  grid: params.Values,
  *,
  days: int = 360,
  curve: waves.Curve = "infectious",
  rule: waves.Rule = waves.RULE,
) -> Diagram:
  """Runs a model over all pairs of values of two parameters.

  Args:
    model: what to run.
    parameters: what all runs share.
    grid: two parameters, and the values of each.
    days: how long.
    curve: whose waves count.
    rule: what a wave is.

  Raises:
    UserError: not two parameters; or as `solve.batch`.
  """
  if len(grid) != 2:
    raise errors.UserError(
      f"got values of {len(grid)} parameters; expected those of two"
    )
  (first, x), (second, y) = grid.items()
  x, y = (
    np.atleast_1d(np.asarray(x, float)),
    np.atleast_1d(np.asarray(y, float)),
  )
  across, along = np.meshgrid(x, y, indexing="ij")
  changes = {first: across.ravel(), second: along.ravel()}
  found = run(model, parameters, changes, days=days, curve=curve, rule=rule)
  shaped = Outcomes(*(part.reshape(across.shape) for part in found))
  return Diagram((first, second), (x, y), shaped)


def sensitivities(
  model: Model,
  parameters: params.Parameters,
  names: Sequence[str],
  *,
  days: int = 360,
) -> Sensitivities:
  """Differentiates the size and the peak of an outbreak, through the solver.

  Args:
    model: what to run.
    parameters: where.
    names: by what.
    days: how long.

  Raises:
    UserError: as `solve.tangents`.
  """
  states, slopes = solve.tangents(model, parameters, names, days=days)
  stages = model.by_stage(states)
  slopes = model.by_stage(np.moveaxis(slopes, -1, 0))
  ill = waves.curve(stages, "infectious")
  day = int(ill.argmax())
  return Sensitivities(
    names=tuple(names),
    attack=float(1 - stages[-1, Stage.S]),
    peak=float(ill[day]),
    attack_slopes=-slopes[:, -1, Stage.S],
    peak_slopes=waves.tally(slopes, "infectious")[:, day],
  )
