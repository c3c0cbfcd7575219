"""Populations have the margins of their census, and account for everybody."""

import dataclasses

import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast import seeding
from research.systems.epicast.population import (
  build,
  households,
  people,
  sorting,
  synthetic,
  tables,
)
from research.systems.epicast.population.people import Kind

PEOPLE = 30_000


@pytest.fixture(scope="module")
def region():
  return synthetic.region(PEOPLE, counties=3)


@pytest.fixture(scope="module")
def population(region):
  return build.build(*region)


def _tract(census, population):
  """Row of the census of each agent."""
  return np.searchsorted(census.tract, population.tract)[
    population.home_community
  ]


def test_agents_are_sorted_by_everything(population):
  home = population.neighbourhood[population.cluster]
  for rising in (population.household, population.cluster, home):
    assert (np.diff(rising) >= 0).all()
  assert len(population) == PEOPLE
  assert np.bincount(population.cluster).max() <= 4
  assert abs(np.bincount(population.home_community).mean() - 2000) < 400


def test_trap_04_sizes_and_ages_of_households_fit_together(region, population):
  census, _ = region
  size = np.bincount(population.household)
  real = ~population.quarters
  adults = np.bincount(population.household, population.age > 1)
  assert (adults[real] >= 1).all()
  assert (size[~real] == 1).all()
  tract = _tract(census, population)
  ages = np.zeros_like(census.ages)
  np.add.at(ages, (tract, population.age), 1)
  np.testing.assert_array_equal(ages, census.ages)
  first = np.flatnonzero(np.diff(population.household, prepend=-1))
  sizes = np.zeros_like(census.households)
  np.add.at(sizes, (tract[first][real], size[real] - 1), 1)
  np.testing.assert_array_equal(sizes, census.households)
  mean = size[real].mean()
  assert abs(mean - 2.66) < 0.02
  # Who lives alone is grown up; with two it is nearly always two adults.
  assert (adults[real & (size == 2)] == 2).mean() > 0.9
  old = np.bincount(population.household, population.age == 4)
  share = [
    old[real & (size == s)].sum() / (size == s)[real].sum() / s
    for s in (1, 2, 4)
  ]
  assert share[0] > share[1] > share[2]
  many = size[population.household] > 2
  child = population.age < 2
  assert 0.2 < child[many].mean() < 0.5
  assert child[many].sum() / child.sum() > 0.9


def test_a_tract_with_more_places_than_people_is_trimmed_and_told():
  census = tables.Census(
    tract=np.array([1]),
    fips=np.array([6001]),
    day_workers=np.array([0]),
    ages=np.array([[4, 6, 5, 10, 0]]),
    households=np.array([[1, 2, 0, 3, 0, 0, 2]]),
  )
  found = households.fill(census, 0)
  assert found.trimmed == 31 - 25
  assert len(found.age) == 25
  assert len(found.quarters) == 8
  adults = np.bincount(found.household, found.age > 1)
  assert (adults >= 1).all()
  np.testing.assert_array_equal(np.bincount(found.age), [4, 6, 5, 10])


def test_trap_05_commuters_follow_the_flows(region, population):
  census, flows = region
  works = population.kind[population.group] == Kind.WORK
  home = _tract(census, population)
  place = population.community[population.place[population.group]]
  work = np.searchsorted(census.tract, population.tract)[place]
  found = np.zeros((len(census.tract),) * 2)
  np.add.at(found, (home[works], work[works]), 1)
  wanted = np.zeros_like(found)
  np.add.at(wanted, (flows.home - 1, flows.work - 1), flows.workers)
  teachers = population.accounts["teachers"]
  assert found.sum() == population.accounts["workers"] - teachers
  assert population.accounts["workers_beyond_adults"] == 0
  # Teachers are workers too, so each flow loses some, none gains.
  assert (found <= np.rint(1.02 * wanted) + 1).all()
  assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99
  share = np.trace(found) / found.sum()
  assert abs(share - 0.089) < 4 * np.sqrt(0.089 / found.sum()) + 0.005


def test_groups_of_the_day_have_their_sizes(population):
  size = np.bincount(population.group, minlength=len(population.kind))
  age = population.age
  for kind, most in ((2, 15), (3, 21), (4, 21), (5, 21)):  # a teacher each
    rooms = size[population.kind == kind]
    assert 0 < rooms.max() <= most
    assert (rooms > 1).all()
  work = size[population.kind == Kind.WORK]
  assert abs(work.mean() - 20) < 1
  kind = population.kind[population.group]
  assert (kind[age == 0] == Kind.PRESCHOOL).all()
  shares = np.bincount(kind[age == 1], minlength=6) / (age == 1).sum()
  np.testing.assert_allclose(
    shares[[0, 3, 4, 5]], [0.07, 0.36, 0.32, 0.25], atol=0.03
  )
  assert (kind[age == 4] == Kind.HOME).all()
  in_class = kind >= Kind.PRESCHOOL
  taught = np.bincount(population.group, in_class & (age > 1), len(size))
  assert (taught[population.kind >= Kind.PRESCHOOL] == 1).all()
  # A class is in one school, and a school in one place.
  assert (population.school[population.kind < 2] == population.schools).all()


def test_trap_11_flows_that_leave_the_region_are_counted(region):
  census, flows = region
  part = build.build(census.counties([1]), flows)
  inside = np.isin(flows.home, census.tract[census.fips == 1])
  goes = inside & ~np.isin(flows.work, census.tract[census.fips == 1])
  accounts = part.accounts
  assert accounts["workers_to_outside"] == flows.workers[goes].sum() > 0
  assert accounts["workers_from_outside"] == flows.workers[~inside].sum()
  assert accounts["workers_beyond_adults"] == 0
  stays = flows.workers[inside & ~goes]
  assert accounts["workers"] == np.floor(1.02 * stays + 0.5).sum()
  placed = (part.kind[part.group] == Kind.WORK).sum() + accounts["teachers"]
  assert placed == accounts["workers"]
  assert (part.county == 0).all()


def test_trap_11_workers_beyond_a_tracts_adults_are_counted(region):
  census, flows = region
  many = dataclasses.replace(flows, workers=3 * flows.workers)
  accounts = build.build(census, many).accounts
  assert accounts["workers_beyond_adults"] > 0
  assert (
    accounts["workers"] + accounts["workers_beyond_adults"]
    == accounts["workers_wanted"]
  )


def test_trap_11_every_index_case_is_somebody(population):
  room = np.bincount(population.county[population.home_community])
  cases = tables.Cases(np.array([1, 3, 77]), np.array([room[0], 13, 5]))
  agents, outside = seeding.place(population, cases, seed=0)
  assert outside == 5
  county = population.county[population.home_community[agents]]
  np.testing.assert_array_equal(
    np.bincount(county, minlength=3), [room[0], 0, 13]
  )
  assert len(np.unique(agents)) == len(agents)
  other, _ = seeding.place(population, cases, seed=0, replicate=1)
  assert (other[-13:] != agents[-13:]).any()
  few = dataclasses.replace(cases, cases=np.array([room[0] + 1, 1, 1]))
  with pytest.raises(
    errors.UserError, match="index cases in county 1; expecte"
  ):
    seeding.place(population, few, seed=0)


def test_a_tract_is_the_same_in_any_region(region, population):
  census, flows = region
  part = build.build(census.counties([2]), flows)
  home = population.county[population.home_community] == 1
  np.testing.assert_array_equal(part.age, population.age[home])
  _, households_there = np.unique(
    population.household[home], return_inverse=True
  )
  np.testing.assert_array_equal(part.household, households_there)


def test_a_cached_population_is_the_same_and_a_damaged_one_built_again(
  tmp_path,
):
  line = "{} 100 40 {} 100 6 20 10 44 20 20 10 10 5 0 0 0"
  census = tmp_path / "a.dat"
  census.write_text(f"2\n{line.format(7, 6001)}\n{line.format(9, 6013)}\n")
  flows = tmp_path / "a.bin"
  flows.write_bytes(np.array([7, 7, 9, 7, 9, 20], "<u4").tobytes())
  cache = tmp_path / "cache"
  made = build.from_files(census, flows, cache=cache)
  (path,) = cache.iterdir()
  again = build.from_files(census, flows, cache=cache)
  assert again.digest() == made.digest()
  assert made.accounts["workers"] == 29  # 1.02 times 9, and 20
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(bytes(content))
  assert build.from_files(census, flows, cache=cache).digest() == made.digest()
  path.write_bytes(b"")
  assert build.from_files(census, flows, cache=cache).digest() == made.digest()
  build.from_files(census, flows, cache=cache, counties=[6001])
  build.from_files(census, flows, cache=cache, seed=1)
  census.write_text(census.read_text() + "\n")
  with pytest.raises(errors.UserError, match="line 1: got '2'"):
    build.from_files(census, flows, cache=cache)
  assert len(list(cache.iterdir())) == 3
  census.write_text(f"1\n{line.format(7, 6001)}\n")
  with pytest.raises(errors.UserError, match="got county 6099"):
    build.from_files(census, flows, counties=[6099])


def test_wrong_regions_are_told(population):
  with pytest.raises(errors.UserError, match="got 50 people in 1 counties"):
    synthetic.region(50)
  crowd = dataclasses.replace(population, group=np.zeros(PEOPLE, np.int32))
  with pytest.raises(errors.UserError, match="got a day group of 30000 people"):
    crowd.check()


def test_ranks_are_those_of_a_slow_sort():
  rng = np.random.default_rng(0)
  group, score = rng.integers(0, 9, 300), rng.integers(-400, 400, 300) / 8.0
  order = sorting.order(group, score)
  np.testing.assert_array_equal(order, np.lexsort((score, group)))
  rank = sorting.rank(group, score)
  for one in range(9):
    assert sorted(rank[group == one]) == list(range((group == one).sum()))


def test_kinds_are_numbered_as_classes_are():
  assert [kind.name for kind in people.Kind][2:] == [
    "PRESCHOOL", "ELEMENTARY", "MIDDLE", "HIGH"
  ]  # fmt: skip
