"""Trap 9: no key is read and then forgotten."""

import datetime
import typing
from typing import Any

import numpy as np
import pytest

from research.systems.epicast import disease
from research.systems.epicast.scenario import compiling, presets
from research.systems.epicast.scenario import scenario as scenario_lib
from tests.systems.epicast.scenario import towns

# They say where data is or what is kept, and are tested with that.
EXEMPT = {
  "census_file": "compiling_test",
  "worker_flow_file": "compiling_test",
  "index_case_file": "compiling_test",
  "geography": "compiling_test",
  "replicates": "simulate_test",
  "events": "simulate_test",
  "checkpoint_interval": "simulate_test",
}
# Change the people and so the shapes; who there is, is compared.
PEOPLE = {
  "population.people": 500,
  "population.counties": 1,
  "population.seed": 1,
  "daytime.enrolled": [0.5, 0.3, 0.3, 0.3],
  "daytime.class_size": [9, 9, 9, 9],
  "daytime.work_group": 8,
  "daytime.home_community": 1.0,
  "daytime.returned": 0.5,
}
# A fraction of a number is another number; what else could be said?
OTHERS = {
  "duration": 20,
  "rng_seed": 1,
  "start_date": datetime.date(2020, 3, 26),
  "output_level": 1,
  "index_cases": {"1": 4, "2": 4},
  "contacts.school": 5.0,
  "disease.latent_cdf": [0.5, 1.0],
  "disease.infectious_cdf": [0.5, 1.0],
  "disease.latent_first": 2,
  "disease.presymptomatic_days": 3,
  "disease.infectious_first": 1,
  "disease.withdrawal": [[0, 0, 0]] * 5,
  "fear.broadcasters[].level": "nation",
  "fear.broadcasters[].signal": "incidence",
  # Logs of these two have one length, so they share a compiled loop.
  "fear.broadcasters[].lag": 3,
  "fear.broadcasters[].average": 4,
  "fear.broadcasters[].threshold": 0.2,
  "fear.broadcasters[].until": 0.0175,
  "fear.behaviours[].name": "cautious",
  "fear.behaviours[].withdraw": ["social"],
  "fear.behaviours[].mask_out": 1.0,
  "fear.behaviours[].mask": ["all"],
  "fear.behaviours[].distance": {"cluster": 0.1},
  "fear.weights": {"household": 1.0},
}
POLICIES = {
  "day": {"3": {"work": [{"scale": 0.7}]}},
  "scale": {"6": {"work": [{"scale": 0.1}]}},
  "fips": {"6": {"work": [{"scale": 0.7, "fips": [1]}]}},
  "compliance": {"9": {"shelter": [{"compliance": 0.9, "fips": [2]}]}},
  "whose": {"9": {"shelter": [{"compliance": 0.2, "fips": [1]}]}},
}
KEYS = {key.path: key for key in scenario_lib.SCHEMA.keys()}


def _varied(path):
  """Another value for a key, and where it stands in the town."""
  where = path.replace("[]", ".1")
  if path in OTHERS:
    return {where: OTHERS[path]}
  table: Any = towns.tables()
  for part in where.split(".")[:-1]:
    table = table[int(part)] if part.isdecimal() else table.get(part, {})
  value = table.get(where.split(".")[-1], KEYS[path].default)
  if isinstance(value, list | tuple):
    return {where: [0.2 * entry for entry in value]}
  return {where: 0.2 * value if value else 0.1}


@pytest.fixture(scope="module")
def base():
  return towns.run(towns.scenario())


def _differ(one, other):
  return set(one) != set(other) or any(
    not np.array_equal(one[name], other[name]) for name in one
  )


def test_every_key_has_a_variation():
  numbers = {path for path, key in KEYS.items() if _is_number(key)}
  missing = set(KEYS) - numbers - set(EXEMPT) - set(PEOPLE) - set(OTHERS)
  assert missing == {"policies"}
  assert not (set(EXEMPT) | set(PEOPLE) | set(OTHERS)) - set(KEYS)


def _is_number(key):
  return key.kind is float or typing.get_origin(key.kind) is tuple


def _run_keys():
  """Keys whose towns are run; two make logs longer, and compile again."""
  for path in KEYS:
    if path not in {*EXEMPT, *PEOPLE, "policies"}:
      longer = path in (
        "fear.broadcasters[].lag",
        "fear.broadcasters[].average",
      )
      yield pytest.param(path, marks=pytest.mark.slow if longer else ())


@pytest.mark.parametrize("path", list(_run_keys()))
def test_trap_09_every_key_changes_an_output(base, path):
  found = towns.run(towns.scenario(_varied(path)))
  assert _differ(found, base)


@pytest.mark.parametrize("path", PEOPLE)
def test_trap_09_every_key_of_the_people_changes_them(path):
  many = {"population.people": 9000}  # in several communities
  usual = compiling.populate(towns.scenario(many))
  other = compiling.populate(towns.scenario(many | {path: PEOPLE[path]}))
  assert other.digest() != usual.digest()


@pytest.mark.parametrize("context", disease.CONTEXTS)
def test_trap_09_fear_spreads_in_every_context(base, context):
  found = towns.run(towns.scenario({f"fear.weights.{context}": 0.0}))
  assert _differ(found, base)


@pytest.mark.parametrize("name", POLICIES)
def test_trap_09_every_part_of_a_policy_changes_an_output(base, name):
  changes = {f"policies.{day}": rule for day, rule in POLICIES[name].items()}
  raw = towns.tables(changes)
  if name == "day":
    del raw["policies"]["6"]
  found = towns.run(scenario_lib.from_tables(raw))
  assert _differ(found, base)


@pytest.mark.parametrize("preset", list(presets.Preset)[1:])
def test_trap_09_every_preset_changes_the_scenario(preset):
  raw = {"index_cases": {"1": 5}, "population": {"people": 400}}
  usual = scenario_lib.from_tables(raw)
  found = scenario_lib.from_tables(raw | {"preset": preset.value})
  assert found.contacts != usual.contacts


def test_the_same_scenario_has_the_same_outputs(base):
  assert not _differ(towns.run(towns.scenario()), base)
