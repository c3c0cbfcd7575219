"""From a scenario to people, a world to run, and the first infected."""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from research.runs import errors
from research.systems.epicast import engine, seeding
from research.systems.epicast.population import (
  build,
  files,
  people,
  synthetic,
  tables,
)
from research.systems.epicast.scenario import scenario as scenario_lib

_STATE = 1000  # a county's code is its state's code times this, and more


class Model(NamedTuple):
  """A scenario that is ready to run.

  Attributes:
    scenario: what was asked for.
    population: who there is.
    world: both, on the device.
    cases: index cases by county.
  """

  scenario: scenario_lib.Scenario
  population: people.Population
  world: engine.World
  cases: tables.Cases

  def start(self, replicate: int) -> engine.State:
    """Returns the state before day 0.

    Args:
      replicate: which run of the scenario.

    Raises:
      UserError: a county has fewer people than index cases.
    """
    scenario = self.scenario
    with _at(_cases_key(scenario)):
      index_cases, _ = seeding.place(
        self.population,
        self.cases,
        seed=scenario.rng_seed,
        replicate=replicate,
      )
    return engine.start(
      self.world,
      scenario.disease,
      index_cases,
      scenario.fear,
      seed=scenario.rng_seed,
      replicate=replicate,
    )

  def accounts(self) -> dict[str, int]:
    """Where everybody went: people, flows of workers, index cases."""
    inside = np.isin(self.cases.fips, self.population.fips)
    return {
      **self.population.accounts,
      "index_cases": int(self.cases.cases[inside].sum()),
      "index_cases_outside": int(self.cases.cases[~inside].sum()),
    }

  def notices(self) -> list[str]:
    """Says in a line each what of the data is not in the run."""
    accounts = self.accounts()
    flows = accounts["workers_in_flows"]
    texts = {
      "workers_to_outside": f"of {flows:,} workers work in tracts outside "
      "the region: they stay at home by day",
      "workers_from_outside": f"of {flows:,} workers live in tracts outside "
      "the region: they are left out",
      "workers_beyond_adults": "workers are more than their tract has adults: "
      "they are left out",
      "trimmed_members": "places in households have nobody to fill them",
      "index_cases_outside": "index cases are in counties outside the region: "
      "they are left out",
    }
    return [
      f"{accounts[name]:,} {text}"
      for name, text in texts.items()
      if accounts[name]
    ]


def compile_scenario(
  scenario: scenario_lib.Scenario,
  *,
  cache: str | os.PathLike[str] | None = None,
  multiple: int = 1,
) -> Model:
  """Builds the population and loads the world.

  Args:
    scenario: as read.
    cache: folder of built populations; see `build.from_files`.
    multiple: agents that do nothing are added up to a multiple of this.

  Raises:
    UserError: names the key whose data is malformed or does not fit.

  Example:
    >>> town = scenario_lib.parse('''
    ...   population.people = 500
    ...   index_cases = {1 = 5}
    ... ''')
    >>> model = compile_scenario(town)
    >>> len(model.population), model.accounts()["index_cases"]
    (500, 5)
  """
  population = populate(scenario.check(), cache=cache)
  changes = []
  for change in scenario.policies:
    with _at(f"policies.{change.day}"):
      fips = counties(change.fips, population.fips)
      changes.append(dataclasses.replace(change, fips=fips))
  world = engine.load(
    population,
    scenario.disease,
    scenario.contacts,
    changes,
    scenario.fear,
    start_date=scenario.start_date,
    multiple=multiple,
  )
  return Model(scenario, population, world, _cases(scenario, population))


def populate(
  scenario: scenario_lib.Scenario,
  *,
  cache: str | os.PathLike[str] | None = None,
) -> people.Population:
  """Builds the population; arguments and errors as `compile_scenario`."""
  asked = scenario.population
  if scenario.census_file is None or scenario.worker_flow_file is None:
    with _at("population.people"):
      region = synthetic.region(
        asked.people or 0, counties=asked.counties, seed=asked.seed
      )
      return build.build(*region, seed=asked.seed, day=scenario.daytime)
  kept: tuple[int, ...] = ()
  if scenario.geography:
    with _at("census_file"):
      known = np.unique(files.census(scenario.census_file).fips)
    with _at("geography"):
      kept = counties(scenario.geography, known)
  with _at("census_file, worker_flow_file"):
    made = build.from_files(
      scenario.census_file,
      scenario.worker_flow_file,
      counties=kept,
      seed=asked.seed,
      day=scenario.daytime,
      cache=cache,
    )
  flows = made.accounts["workers_in_flows"]
  if flows and not made.accounts["workers_wanted"]:
    raise errors.UserError(
      f"worker_flow_file: got {flows} workers, none from and to tracts of "
      "census_file; expected flows between its tracts: are both of one region?"
    )
  return made


def counties(codes: Iterable[int], known: np.ndarray) -> tuple[int, ...]:
  """Replaces codes of states by those of their counties.

  Args:
    codes: of states (up to 99) and counties.
    known: codes of counties that are there.

  Raises:
    UserError: nothing that is there has one of the codes.

  Example:
    >>> counties([6, 35001], np.array([6001, 6013, 35001]))
    (6001, 6013, 35001)
  """
  found: list[int] = []
  for code in codes:
    inside = known[known // _STATE == code]
    if code not in known and not len(inside):
      tables.require_counties(np.array([code]), known)
    found += [code] if code in known else inside.tolist()
  return tuple(found)


def _cases_key(scenario: scenario_lib.Scenario) -> str:
  return "index_case_file" if scenario.index_case_file else "index_cases"


def _cases(
  scenario: scenario_lib.Scenario, population: people.Population
) -> tables.Cases:
  with _at(_cases_key(scenario)):
    if scenario.index_case_file:
      return files.cases(scenario.index_case_file)
    codes = np.array([int(code) for code in scenario.index_cases])
    # A file may be of the whole nation; what is written here is meant.
    tables.require_counties(codes, population.fips)
    return tables.Cases(codes, np.array(list(scenario.index_cases.values())))


@contextlib.contextmanager
def _at(key: str) -> Iterator[None]:
  """Tells in whose key a mistake is."""
  try:
    yield
  except errors.UserError as error:
    raise errors.UserError(f"{key}: {error}") from None
