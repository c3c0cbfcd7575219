"""The Bay Area's people have the margins of its census and flows."""

import pathlib

import numpy as np
import pytest

from research.systems.epicast.population import build, daytime, files
from research.systems.epicast.population.people import Kind

_FOLDER = pathlib.Path(__file__).parents[5] / "shared" / "data" / "census"
_SAN_FRANCISCO = 6075


@pytest.fixture(
  scope="module",
  params=[[_SAN_FRANCISCO], pytest.param([], marks=pytest.mark.slow)],
  ids=["San Francisco", "Bay Area"],
)
def region(request):
  """Census, flows, and people, of a county or of all nine."""
  if not _FOLDER.is_dir():
    pytest.skip("no census beside the repository: ../shared/data/census")
  census = files.census(_FOLDER / "BayArea.dat")
  if request.param:
    census = census.counties(request.param)
  flows = files.flows(_FOLDER / "BayArea-wf.bin")
  return census, flows, build.build(census, flows)


def _home(census, population):
  tract = population.tract[population.home_community]
  return np.searchsorted(census.tract, tract)


def test_trap_04_ages_and_households_are_those_of_the_census(region):
  """Exactly, in every tract, but for households that had to be trimmed."""
  census, _, population = region
  home = _home(census, population)
  assert (np.diff(census.tract) > 0).all()
  ages = np.zeros_like(census.ages)
  np.add.at(ages, (home, population.age), 1)
  np.testing.assert_array_equal(ages, census.ages)
  size = np.bincount(population.household)
  first = np.searchsorted(population.household, np.arange(len(size)))
  private = ~population.quarters
  found = np.zeros_like(census.households)
  np.add.at(found, (home[first[private]], size[private] - 1), 1)
  trimmed = population.accounts["trimmed_members"]
  assert np.abs(found - census.households).sum() <= 2 * trimmed
  assert trimmed < 0.01 * len(population)
  grown_up = np.bincount(population.household, weights=population.age > 1)
  assert (grown_up[private] > 0).mean() > 0.999


def test_trap_05_commuters_are_within_4_sigma_of_the_flows(region):
  """Counts of each flow between two tracts, as of Poisson variables."""
  census, flows, population = region
  home = _home(census, population)
  adult = (population.age == 2) | (population.age == 3)
  works = adult & (population.kind[population.group] != Kind.HOME)
  place = population.community[population.place[population.group]]
  work = np.searchsorted(census.tract, population.tract[place])
  shape = (len(census.tract),) * 2
  found = np.zeros(shape)
  np.add.at(found, (home[works], work[works]), 1)
  row = lambda tract: np.searchsorted(census.tract, tract)
  inside = np.isin(flows.home, census.tract) & np.isin(flows.work, census.tract)
  wanted = np.zeros(shape)
  np.add.at(
    wanted,
    (row(flows.home[inside]), row(flows.work[inside])),
    flows.workers[inside] * daytime.Daytime().returned,
  )
  sigma = np.sqrt(np.maximum(wanted, 1))
  scarce = found.sum(1) < np.rint(wanted.sum(1)) * 0.99  # too few adults
  assert scarce.mean() < 0.05
  far = np.abs(found - wanted) > 4 * sigma
  assert not far[~scarce].any()
  assert found.sum() == population.accounts["workers"]


def test_trap_05_shares_who_work_in_their_own_tract_are_the_flows(region):
  census, flows, population = region
  inside = np.isin(flows.home, census.tract) & np.isin(flows.work, census.tract)
  own = (flows.home == flows.work)[inside]
  workers = flows.workers[inside]
  share = workers[own].sum() / workers.sum()
  home = _home(census, population)
  works = population.kind[population.group] == Kind.WORK
  place = population.community[population.place[population.group]]
  work = np.searchsorted(census.tract, population.tract[place])
  found = (home == work)[works].mean()
  sigma = np.sqrt(share * (1 - share) / works.sum())
  assert abs(found - share) < 4 * sigma + 0.005
