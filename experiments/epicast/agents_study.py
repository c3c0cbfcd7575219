"""Runs towns of agents over the grid, a unit for each cell and seed."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.epicast import cells
from experiments.epicast import config as config_lib
from research import runs
from research.systems.epicast import disease, engine, seeding, waves
from research.systems.epicast.fear import Fear
from research.systems.epicast.population import (
  build,
  people,
  synthetic,
  tables,
)

HISTORY = disease.Disease()
CONTACTS = disease.Contacts()


class Run(NamedTuple):
  """What is kept of a run.

  Attributes:
    infectious: share of people in P, Is or Ia at each day's end.
    infections: share infected on each day.
    fearful: share who are afraid at each day's end.
    attack: share of people ever infected, index cases included.
    waves: how many, by `waves.RULE`.
  """

  infectious: np.ndarray
  infections: np.ndarray
  fearful: np.ndarray
  attack: float
  waves: int


@dataclasses.dataclass(frozen=True)
class Outbreaks:
  """All runs of a town.

  Attributes:
    people: of the town.
    calm: runs without fear, by seed.
    cells: runs by cell, and seed.
    larger: number of waves by cell in a larger town; empty if there is none.
  """

  people: int
  calm: list[Run]
  cells: dict[cells.Cell, list[Run]]
  larger: dict[cells.Cell, int]


def run(config: config_lib.Config, context: runs.Context) -> Outbreaks:
  """Runs every cell with every seed.

  Args:
    config: the settings.
    context: where to put what it makes.
  """
  settings = config.agents
  town = Town(settings.people, settings, config.seed)
  calm = town.runs(context, cells.CALM, [None], settings.calm_seeds)
  grid = list(settings.cells())
  found = town.runs(context, "agents", grid, settings.seeds)
  outbreaks = Outbreaks(
    people=settings.people,
    calm=calm[None],
    cells={cell: found[cell] for cell in grid},
    larger=_larger(config, context),
  )
  _log(outbreaks, context)
  return outbreaks


class Town:
  """A synthetic town, and its index cases by seed."""

  def __init__(self, size: int, settings: config_lib.Agents, seed: int):
    self._people = build.build(*synthetic.region(size), seed=0)
    self._settings = settings
    self._seed = seed

  def runs(
    self,
    context: runs.Context,
    stage: str,
    grid: Sequence[cells.Cell | None],
    seeds: int,
  ) -> dict[cells.Cell | None, list[Run]]:
    """Returns runs by cell; of no cell, there is no fear."""
    places = {
      f"{cell.name if cell else cells.CALM}.seed-{seed}": (cell, seed)
      for cell in grid
      for seed in range(seeds)
    }

    def simulate(name: str) -> dict[str, np.ndarray]:
      cell, seed = places[name]
      return self._simulate(cell.fear() if cell else None, seed)

    done = context.units(stage).map(list(places), simulate)
    found: dict[cells.Cell | None, list[Run]] = {}
    for name, (cell, _) in places.items():
      found.setdefault(cell, []).append(self._read(done[name]))
    return found

  def _simulate(self, fear: Fear | None, seed: int) -> dict[str, np.ndarray]:
    settings = self._settings
    cases = index_cases(self._people, settings.index_share, self._seed, seed)
    world = engine.load(self._people, HISTORY, CONTACTS, (), fear)
    state = engine.start(
      world, HISTORY, cases, fear, seed=self._seed, replicate=seed
    )
    _, daily = engine.run(world, state, days=settings.days)
    return {
      "stages": np.asarray(daily.stages).sum(1),
      "infections": np.asarray(daily.infections).sum(1),
      "fearful": np.asarray(daily.fearful).sum(1),
    }

  def _read(self, unit: dict[str, np.ndarray]) -> Run:
    size = len(self._people)
    infectious = waves.curve(unit["stages"], "infectious")
    return Run(
      infectious=infectious,
      infections=unit["infections"] / size,
      fearful=unit["fearful"] / size,
      attack=1 - float(unit["stages"][-1, disease.Stage.S]) / size,
      waves=int(waves.count(infectious, people=size)),
    )


def index_cases(
  population: people.Population, share: float, seed: int, replicate: int
) -> np.ndarray:
  """Draws who is infected at the start, ten people at least.

  Args:
    population: of one county.
    share: of the people.
    seed: of the experiment.
    replicate: which run of it.
  """
  number = max(10, round(share * len(population)))
  cases = tables.Cases(population.fips, np.array([number]))
  return seeding.place(population, cases, seed=seed, replicate=replicate)[0]


def _larger(
  config: config_lib.Config, context: runs.Context
) -> dict[cells.Cell, int]:
  settings = config.agents
  if not settings.larger:
    return {}
  size = settings.larger * settings.people
  strong = settings.cuts[-1:]
  grid = settings.broadcaster.cells("broadcaster", strong)
  town = Town(size, settings, config.seed)
  found = town.runs(context, "larger", grid, 1)
  return {cell: found[cell][0].waves for cell in grid}


def _log(outbreaks: Outbreaks, context: runs.Context) -> None:
  """Writes each cell's means to the run's metrics."""
  with context.metrics() as metrics:
    for index, found in enumerate(outbreaks.cells.values()):
      means = {
        "cell/waves": np.mean([one.waves for one in found]),
        "cell/attack": np.mean([one.attack for one in found]),
        "cell/most_fearful": np.mean([one.fearful.max() for one in found]),
      }
      metrics.scalars(index, {name: float(x) for name, x in means.items()})


def rehearse(config: config_lib.Config) -> str:
  """Says what a run would do.

  Args:
    config: the settings.
  """
  settings = config.agents
  counts = {
    name: len(getattr(settings, name).cells(name, settings.cuts))
    for name in cells.SETTINGS
  }
  told = ", ".join(f"{count} {name}" for name, count in counts.items())
  number = settings.calm_seeds + sum(counts.values()) * settings.seeds
  return (
    f"{number} runs of {settings.people:,} people and {settings.days} days: "
    f"cells {told}, {settings.seeds} seeds each, {settings.calm_seeds} runs "
    "without fear"
  )
