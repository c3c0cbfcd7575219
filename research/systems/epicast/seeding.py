"""Index cases: which people are infected when a run starts."""

import numpy as np

from research.runs import errors
from research.systems.epicast import draws
from research.systems.epicast.population import people, tables

_BATCH = 5  # neighbours that are infected together


def place(
  population: people.Population,
  cases: tables.Cases,
  *,
  seed: int,
  replicate: int = 0,
) -> tuple[np.ndarray, int]:
  """Draws index cases, in batches of 5, from communities of their counties.

  Args:
    population: where they live.
    cases: by county; counties outside the region are left out and counted.
    seed: of the experiment.
    replicate: which run of the experiment.

  Returns:
    Different agents, in order, and the cases of counties outside.

  Raises:
    UserError: a county has fewer people than cases.

  Example:
    >>> from research.systems.epicast.population import build, synthetic
    >>> population = build.build(*synthetic.region(1000))
    >>> cases = tables.Cases(np.array([1, 99]), np.array([7, 2]))
    >>> agents, outside = place(population, cases, seed=0)
    >>> len(set(agents.tolist())), outside
    (7, 2)
  """
  inside = np.isin(cases.fips, population.fips)
  home = population.home_community
  residents = np.bincount(home, minlength=len(population.county))
  wanted = np.zeros(len(residents), np.int64)
  for code, number in zip(cases.fips[inside], cases.cases[inside], strict=True):
    county = int(np.searchsorted(population.fips, code))
    where = np.flatnonzero((population.county == county) & (residents > 0))
    if number > residents[where].sum():
      raise errors.UserError(
        f"got {number} index cases in county {code}; expected at most its "
        f"{residents[where].sum()} people: lower the number"
      )
    room = residents[where]
    key = draws.key(seed, "community of index cases", replicate)
    wanted[where] = _spread(int(number), room, int(code), key)
  chosen = _members(home, wanted, draws.key(seed, "index cases", replicate))
  return chosen, int(cases.cases[~inside].sum())


def _spread(
  number: int, room: np.ndarray, county: int, key: np.ndarray
) -> np.ndarray:
  """Puts batches into random communities; what does not fit moves on."""
  batches = -(-number // _BATCH)
  index = np.arange(batches, dtype=np.uint32)
  words, _ = draws.words(key, np.full(batches, county, np.uint32), index)
  size = np.full(batches, _BATCH)
  size[batches - 1 :] -= batches * _BATCH - number
  where = draws.below(words, len(room))
  counts = np.bincount(where, size, len(room)).astype(np.int64)
  while (spare := counts - room).max(initial=0) > 0:
    spare = np.maximum(spare, 0)
    counts += np.roll(spare, 1) - spare
  return counts


def _members(
  home: np.ndarray, wanted: np.ndarray, key: np.ndarray
) -> np.ndarray:
  """Draws so many different people of each community."""
  agent = np.flatnonzero(wanted[home] > 0)
  words, _ = draws.words(key, agent.astype("u4"), np.zeros(len(agent), "u4"))
  # Few communities have cases, so a plain sort will do.
  agent = agent[np.lexsort((words, home[agent]))]
  counts = np.bincount(home[agent], minlength=len(wanted))
  rank = np.arange(len(agent)) - (np.cumsum(counts) - counts)[home[agent]]
  return np.sort(agent[rank < wanted[home[agent]]])
