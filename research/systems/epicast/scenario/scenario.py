"""A scenario: everything that a run is told, read from one TOML file."""

import dataclasses
import datetime
import math
import pathlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from research.runs import errors
from research.systems.epicast import disease as disease_lib
from research.systems.epicast.fear import Fear
from research.systems.epicast.policies import Change, Shelter
from research.systems.epicast.population import files, tables
from research.systems.epicast.population.daytime import Daytime
from research.systems.epicast.scenario import presets, schema

LEVELS = (1, 5)  # of EpiCast's 0 to 5
_LONGEST = 16  # days of a stage that a file may list
FILES = ("census_file", "worker_flow_file", "index_case_file")


@dataclasses.dataclass(frozen=True, kw_only=True)
class People:
  """Who there is, beside what census files say.

  Attributes:
    people: makes a region of so many; not with a census.
    counties: of the made region; their FIPS codes are 1, 2, 3, ...
    seed: of everything that is drawn to build a population.
  """

  people: int | None = None
  counties: int = 1
  seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
  """Everything that a run is told; keys have EpiCast's names where it has them.

  Attributes:
    duration: days.
    rng_seed: of the epidemic.
    replicates: runs that differ in nothing but their random numbers.
    start_date: date of day 0.
    geography: FIPS codes of states or counties to keep; all if empty.
    census_file: a census, in ExaEpi's layout.
    worker_flow_file: workers between its tracts.
    index_case_file: index cases by county; those of counties outside the region
      are left out and counted.
    index_cases: the same, written here: FIPS code and number.
    output_level: 1 for new infections by county and day, 5 for new symptoms,
      fear and all stages as well.
    events: keep the log of every transition of every agent, and who infected
      whom.
    checkpoint_interval: in days; 0 for none, -1 for one before day 0 and no
      run.
    population: who there is.
    daytime: schools and work.
    disease: natural history.
    contacts: how strong they are.
    fear: how it spreads and fades, and what it does; none if left out.
    policies: changes of contacts, and orders to stay at home. In a file
      `[policies.20]` or `[policies.2020-04-14]` holds, by context or as
      `shelter`, lists of `{scale, fips}` or `{compliance, fips}`.
  """

  duration: int = 180
  rng_seed: int = 0
  replicates: int = 1
  start_date: datetime.date | None = None
  geography: Sequence[int] = ()
  census_file: pathlib.Path | None = None
  worker_flow_file: pathlib.Path | None = None
  index_case_file: pathlib.Path | None = None
  index_cases: Mapping[str, int] = dataclasses.field(default_factory=dict)
  output_level: int = 5
  events: bool = False
  checkpoint_interval: int = 30
  population: People = People()
  daytime: Daytime = Daytime()
  disease: disease_lib.Disease = disease_lib.Disease()
  contacts: disease_lib.Contacts = disease_lib.Contacts()
  fear: Fear | None = None
  policies: Sequence[Change | Shelter] = ()

  def check(self) -> "Scenario":
    """Returns itself if its keys fit together.

    Raises:
      UserError: names the key.
    """
    for complaint in _complaints(self):
      raise errors.UserError(complaint)
    try:
      self.contacts.hazards()
    except errors.UserError as error:
      raise errors.UserError(f"contacts.{error}") from None
    return self


SCHEMA = schema.Schema(
  Scenario,
  limits={
    "duration": (1, 100_000),
    "rng_seed": (0, 2**32 - 1),
    "replicates": (1, 100_000),
    "checkpoint_interval": (-1, math.inf),
    "population.people": (100, 2**31 - 1),
    "population.counties": (1, 10_000),
    "population.seed": (0, 2**32 - 1),
    "daytime.enrolled": (0, 1),
    "daytime.class_size": (1, 1000),
    "daytime.work_group": (1, 1000),
    "daytime.home_community": (0, 1),
    "disease.latent_first": (1, 16),
    "disease.presymptomatic_days": (1, 100),
    "disease.infectious_first": (1, 16),
    "disease.withdrawal": (0, 1),
  },
  elsewhere={
    "pFA": "contacts.household_factor",
    "pWO": "contacts.work_factor",
    "pSC": "contacts.class_factor",
    "pHC": "contacts.cluster_factor",
    "pNH": "contacts.neighbourhood_factor",
    "pCO": "contacts.community_factor",
    "behaviours": "fear.behaviours",
    "broadcaster": "fear.broadcasters",
    "broadcasters": "fear.broadcasters",
  },
)


def read(path: pathlib.Path | str) -> Scenario:
  """Reads a scenario file.

  Args:
    path: a TOML file; paths in it are relative to its folder.

  Returns:
    The scenario, checked; data files are not opened yet.

  Raises:
    UserError: names the file and the key, what it was given, what it takes.
  """
  path = pathlib.Path(path)
  text = files.read(path).decode(errors="replace")
  try:
    found = parse(text)
  except errors.UserError as error:
    raise errors.UserError(f"{path.name}: {error}") from None
  there = {
    name: path.parent / getattr(found, name)
    for name in FILES
    if getattr(found, name)
  }
  return dataclasses.replace(found, **there)


def parse(text: str) -> Scenario:
  """Reads a scenario from TOML, as `read`.

  Example:
    >>> town = parse('''
    ...   preset = "ny"
    ...   population.people = 1000
    ...   index_cases = {1 = 5}
    ... ''')
    >>> town.contacts.p_trans, town.duration
    (0.068, 180)
  """
  try:
    return from_tables(tomllib.loads(text))
  except tomllib.TOMLDecodeError as error:
    raise errors.UserError(f"got no TOML: {error}; mend that line") from None


def from_tables(raw: Mapping[str, Any]) -> Scenario:
  """Reads a scenario from what TOML holds; errors as `read`."""
  raw = dict(raw)
  named = raw.pop("preset", presets.Preset.NM)
  preset = schema.choice(presets.Preset, named, "preset")
  rules = _policies(raw.pop("policies", {}))
  found = SCHEMA.read(presets.under(preset, raw))
  return dataclasses.replace(found, policies=rules).check()


def _policies(raw: Any) -> tuple[Change | Shelter, ...]:
  """Reads EpiCast's shape: by day, then by context, lists of rules."""
  by_day = SCHEMA.value(Mapping[str, Mapping[str, list]], raw, "policies")
  rules = []
  for name, contexts in by_day.items():
    day = _day(name)
    for context, entries in contexts.items():
      path = f"policies.{name}.{context}"
      kind, given = _rule(context, path)
      rules += [
        SCHEMA.table(kind, entry, f"{path}[{index}]", {"day": day, **given})
        for index, entry in enumerate(entries)
      ]
  return tuple(rules)


def _day(name: str) -> int | datetime.date:
  if name.isdecimal():
    return int(name)
  try:
    return datetime.date.fromisoformat(name)
  except ValueError:
    raise errors.UserError(
      f"policies.{name}: got no day; expected one such as policies.20 or "
      "policies.2020-04-14"
    ) from None


def _rule(context: str, path: str) -> tuple[type, dict[str, str]]:
  if context == "shelter":
    return Shelter, {}
  try:
    disease_lib.contexts(context)
  except errors.UserError as error:
    raise errors.UserError(f"{path}: {error}") from None
  return Change, {"context": context}


def _complaints(scenario: Scenario) -> Iterator[str]:
  """What does not fit together."""
  yield from _about_people(scenario)
  yield from _about_dates(scenario)
  for code in scenario.index_cases:
    if not code.isdecimal():
      yield f"index_cases.{code}: got {code!r}; expected a FIPS code"
  if scenario.output_level not in LEVELS:
    yield (
      f"output_level: got {scenario.output_level}; expected 1 (new infections) "
      "or 5 (symptoms, fear and stages too)"
    )
  for name in ("latent_cdf", "infectious_cdf"):
    length = len(getattr(scenario.disease, name))
    if length > _LONGEST:
      yield f"disease.{name}: got {length} days; expected {_LONGEST} at most"
  rows = len(scenario.disease.withdrawal)
  if rows != len(tables.AGES):
    yield (
      f"disease.withdrawal: got {rows} rows; expected one for each of "
      f"{len(tables.AGES)} ages"
    )
  if sum(scenario.daytime.enrolled[1:]) > 1:
    yield (
      f"daytime.enrolled: got {scenario.daytime.enrolled}; expected the last "
      "three to add up to 1 at most"
    )


def _about_dates(scenario: Scenario) -> Iterator[str]:
  start = scenario.start_date
  for change in scenario.policies:
    if isinstance(change.day, datetime.date):
      if start is None:
        yield (
          f"policies.{change.day}: got a date without start_date; expected that"
          " of day 0: add it"
        )
      elif change.day < start:
        yield (
          f"policies.{change.day}: got a date before start_date = {start}; "
          "expected a later one"
        )


def _about_people(scenario: Scenario) -> Iterator[str]:
  made = scenario.population.people is not None
  census, flows = bool(scenario.census_file), bool(scenario.worker_flow_file)
  if made == census:
    yield (
      f"population.people: got {'both' if made else 'neither'} of it and "
      "census_file; expected one of them, to say who there is"
    )
  if census != flows:
    yield (
      "worker_flow_file: got one of it and census_file; expected both or none"
    )
  if made and scenario.geography:
    yield "geography: got codes without census_file; expected none: remove it"
  if bool(scenario.index_case_file) == bool(scenario.index_cases):
    yield (
      "index_cases: got both or neither of it and index_case_file; expected "
      "one, such as index_cases = {6001 = 10}"
    )
