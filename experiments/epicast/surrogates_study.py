"""Solves the surrogate equations: their waves, their speed, and fits."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.stats import qmc

from experiments.epicast import agents_analysis, agents_study
from experiments.epicast import config as config_lib
from research.systems.epicast import waves
from research.systems.epicast.surrogates import (
  examples,
  fit,
  model,
  solve,
  sweep,
)
from research.systems.epicast.surrogates.parameters import Parameters

DAYS = 360
R0 = 2.5  # of the comparison of stages
#: Fear in the comparison of stages: it comes from people with symptoms.
AFRAID = {"phi_sf": 2.0, "gamma_f": 0.02, "sigma_f": 0.3}
HEARD = dataclasses.replace(model.SEPIIRR, broadcaster="incidence")
_FEW = 1e-6  # infected at the start where a doubling time is read off
_GROWING = 1e-5, 1e-3  # infectious people between which it is
_INDEX = 1e-3  # infected at the start where waves are counted, as of agents
#: What random points range over: reproduction number, then by parameter.
_SHARED = {"r0": (1.5, 3.5), "sigma_f": (0.0, 1.0), "fading": (20.0, 100.0)}
_LOCAL = {"phi_ff": (1e-3, 1.0), "phi_sf": (0.1, 10.0), "rho_f": (0.0, 1.0)}
_MEDIA = {"phi_b": (10.0, 300.0), "lag_days": (3.0, 17.0)}
_LOGARITHMIC = ("fading", "phi_ff", "phi_sf", "phi_b")


class Line(NamedTuple):
  """Waves as one parameter varies.

  Attributes:
    varied: its name.
    values: of it.
    waves: their number, by value.
  """

  varied: str
  values: np.ndarray
  waves: np.ndarray


class Outbreak(NamedTuple):
  """A solved outbreak.

  Attributes:
    infectious: share of people, by day.
    doubling: days in which it doubles at first.
  """

  infectious: np.ndarray
  doubling: float


class Fitted(NamedTuple):
  """A surrogate fitted to a run of agents.

  Attributes:
    observed: share of agents infected, by day.
    waves: of the agents, and of the fitted surrogate.
    fit: what was found.
    true: values by which the agents were run, where they have a counterpart.
  """

  observed: np.ndarray
  waves: tuple[int, int]
  fit: fit.Fit
  true: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Findings:
  """What the equations gave; dictionaries are by the model's name.

  Attributes:
    diagrams: waves over rho_f and sigma_f.
    lines: waves over the parameter by which the paper varies each model.
    local: waves at random points, fear by contact alone.
    media: waves at the same points, fear by a broadcaster alone.
    calm: outbreaks at one reproduction number, without fear.
    afraid: likewise, with fear from people who have symptoms.
    fits: to runs of agents, by what they are of; empty if not wanted.
  """

  diagrams: dict[str, sweep.Diagram]
  lines: dict[str, Line]
  local: np.ndarray
  media: np.ndarray
  calm: dict[str, Outbreak]
  afraid: dict[str, Outbreak]
  fits: dict[str, Fitted]


def run(
  config: config_lib.Config, outbreaks: agents_study.Outbreaks
) -> Findings:
  """Solves all that the settings ask for.

  Args:
    config: the settings.
    outbreaks: of agents, for the fits.
  """
  settings = config.surrogates
  local, media = _random(settings.points, config.seed)
  pairs = {one.name: _outbreaks(one) for one in model.MODELS}
  return Findings(
    diagrams={
      name: _diagram(one, settings.side)
      for name, one in examples.EXAMPLES.items()
    },
    lines={
      name: _line(one, settings.side) for name, one in examples.EXAMPLES.items()
    },
    local=local,
    media=media,
    calm={name: pair[0] for name, pair in pairs.items()},
    afraid={name: pair[1] for name, pair in pairs.items()},
    fits=_fits(config, outbreaks) if settings.fits else {},
  )


def values(name: str, side: int) -> np.ndarray:
  """Values of rho_f (logarithmic, from 0.001) or sigma_f, up to 1."""
  if name == "rho_f":
    return np.geomspace(1e-3, 1, side)
  return np.linspace(0, 1, side)


def _diagram(one: examples.Example, side: int) -> sweep.Diagram:
  grid = {name: values(name, side) for name in ("rho_f", "sigma_f")}
  return sweep.phase_diagram(one.model, one.base, grid, days=DAYS)


def _line(one: examples.Example, side: int) -> Line:
  across = values(one.varied, side)
  found = sweep.run(one.model, one.base, {one.varied: across}, days=DAYS)
  return Line(one.varied, across, found.waves)


def _random(points: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Waves at random points by contact alone, and by a broadcaster alone."""
  ranges = _SHARED | _LOCAL | _MEDIA
  ends = np.array(list(ranges.values()))
  logs = np.array([name in _LOGARITHMIC for name in ranges])
  ends[logs] = np.log(ends[logs])
  spread = qmc.LatinHypercube(len(ranges), rng=seed).random(points)
  found = qmc.scale(spread, *ends.T)
  found[:, logs] = np.exp(found[:, logs])
  drawn = dict(zip(ranges, found.T, strict=True))
  shared = {
    "beta": drawn["r0"] / _unit(model.SEPIIRR),
    "sigma_f": drawn["sigma_f"],
    "gamma_f": 1 / drawn["fading"],
  }
  base = Parameters(beta=1.0, infected=_INDEX)
  count = lambda one, names: (
    sweep.run(
      one, base, shared | {name: drawn[name] for name in names}, days=DAYS
    ).waves
  )
  return count(model.SEPIIRR, _LOCAL), count(HEARD, _MEDIA)


def _unit(one: model.Model) -> float:
  """Reproduction number for a beta of 1."""
  return float(np.asarray(one.reproduction_number(Parameters(beta=1.0))))


def _outbreaks(one: model.Model) -> list[Outbreak]:
  """Without fear, and with it."""
  base = Parameters(beta=R0 / _unit(one), infected=_FEW)
  changes = {name: (getattr(base, name), x) for name, x in AFRAID.items()}
  states = solve.batch(one, base, changes, days=DAYS)
  return [
    Outbreak(curve, _doubling(curve))
    for curve in waves.curve(one.by_stage(states), "infectious")
  ]


def _doubling(infectious: np.ndarray) -> float:
  rising = infectious[: int(infectious.argmax())]
  days = np.flatnonzero((rising > _GROWING[0]) & (rising < _GROWING[1]))
  slope = np.polyfit(days, np.log(infectious[days]), 1)[0]
  return float(np.log(2) / slope)


def _fits(
  config: config_lib.Config, outbreaks: agents_study.Outbreaks
) -> dict[str, Fitted]:
  """Fits of the first calm run, and of one with a broadcaster."""
  strong = config.agents.cuts[-1]
  cell = agents_analysis.middle(outbreaks, "broadcaster", strong)
  start = Parameters(beta=0.5, infected=_INDEX)
  epidemic = {"beta": (0.1, 2.0), "infected": (1e-4, 1e-2)}
  fear = {"phi_b": (1.0, 3e3), "gamma_f": (2e-3, 0.5), "sigma_f": (0.0, 1.0)}
  # The mean age of what a weekly average reports.
  heard = dataclasses.replace(
    start, phi_b=30.0, gamma_f=0.03, sigma_f=0.3, lag_days=cell.lag + 3.0
  )
  people = outbreaks.people
  return {
    "no fear": _fit(model.SEPIIRR, start, epidemic, outbreaks.calm[0], people),
    "broadcaster": _fit(
      HEARD,
      heard,
      epidemic | fear,
      outbreaks.cells[cell][0],
      people,
      {"phi_b": cell.strength, "gamma_f": 1 / cell.fading_days},
    ),
  }


def _fit(
  one: model.Model,
  start: Parameters,
  bounds: fit.Bounds,
  run: agents_study.Run,
  people: int,
  true: Mapping[str, float] | None = None,
) -> Fitted:
  found = fit.fit(one, start, bounds, run.infections, people=people)
  states = solve.solve(one, found.parameters, days=len(run.infections))
  modelled = waves.curve(one.by_stage(states), "infectious")
  own = int(waves.count(modelled))
  return Fitted(run.infections, (run.waves, own), found, true or {})


def rehearse(config: config_lib.Config) -> str:
  """Says what a run would do.

  Args:
    config: the settings.
  """
  settings = config.surrogates
  models = ", ".join(one.name for one in model.MODELS)
  return (
    f"{models}: {settings.side} x {settings.side} values of rho_f and sigma_f, "
    f"{settings.points} random points with and without a broadcaster"
    + ("; fits of two runs of agents" if settings.fits else "")
  )
