"""Puts the people of each tract into households, sizes and ages together.

Ages and household sizes of a tract come out exactly as counted. Each household
has an adult. Children go first to third and later members, then to second
members; adults of a household are near in age. Who is left when all households
are full lives in quarters (dormitories, prisons, homes), a household each.
"""

import dataclasses

import numpy as np

from research.systems.epicast import draws
from research.systems.epicast.population import sorting, tables

# Odds that a place in a household is a child's.
_THIRD, _SECOND_OF_MANY, _SECOND_OF_TWO, _QUARTERS = 3.0, 0.3, 0.05, 1e-9


@dataclasses.dataclass(frozen=True)
class Residents:
  """People sorted by tract and household.

  Attributes:
    household: of each person, `[people]`.
    age: group of `tables.AGES`, `[people]`.
    tract: row of the census, of each household, `[households]`.
    quarters: whether a household is one person in quarters, `[households]`.
    trimmed: members by which households shrank, because the tract has fewer
      people than places.
  """

  household: np.ndarray
  age: np.ndarray
  tract: np.ndarray
  quarters: np.ndarray
  trimmed: int


def fill(census: tables.Census, seed: int) -> Residents:
  """Makes households of everybody in the census.

  A tract's people depend on its identifier, its counts and the seed, not on
  which other tracts there are.

  Args:
    census: of the region.
    seed: of the population.
  """
  counts, trimmed = _fitting(census)
  tract, size, quarters = _households(census, counts, seed)
  household = np.repeat(np.arange(len(size), dtype=np.int32), size)
  person = _People(census, seed, tract[household])
  first = (np.cumsum(size) - size).astype(np.int32)
  place = np.arange(len(household), dtype=np.int32) - first[household]
  child = _children(person, census, place, size[household], quarters[household])
  age = _ages(person, census, household, child, place, size, quarters)
  return Residents(household, age, tract, quarters, trimmed)


class _People:
  """Draws of people, and their order within their tracts."""

  def __init__(self, census: tables.Census, seed: int, tract: np.ndarray):
    self.tract, self.seed = tract, seed
    counts = np.bincount(tract, minlength=len(census.tract))
    starts = (np.cumsum(counts) - counts).astype(np.uint32)
    self.identity = census.tract.astype(np.uint32)[tract]
    self.index = np.arange(len(tract), dtype=np.uint32) - starts[tract]

  def draw(self, decision: str) -> np.ndarray:
    key = draws.key(self.seed, decision)
    return draws.uniform(draws.words(key, self.identity, self.index)[0])

  def rank(self, score: np.ndarray) -> np.ndarray:
    """The place of each score among those of its tract, the least first."""
    return sorting.rank(self.tract, score)


def _fitting(census: tables.Census) -> tuple[np.ndarray, int]:
  """Shrinks households of tracts that have more places than people."""
  counts = census.households.copy()
  over = counts @ tables.SIZES - census.people
  for row in np.flatnonzero(over > 0):
    excess = over[row]
    while excess > 0:  # each turn takes one member of some households
      many = counts[row] * (tables.SIZES > 1)
      fewer = min(excess, many.sum())
      lose = tables.shares(int(fewer), many)
      counts[row] += np.append(lose[1:], 0) - lose
      excess -= fewer
  return counts, int(over[over > 0].sum())


def _households(
  census: tables.Census, counts: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Tract, size and kind of each, in random order within the tract."""
  alone = census.people - counts @ tables.SIZES
  kinds = np.column_stack((counts, alone))  # quarters are the last kind
  rows, columns = kinds.shape
  tract = np.repeat(np.arange(rows, dtype=np.int32), kinds.sum(1))
  kind = np.repeat(np.tile(np.arange(columns), rows), kinds.ravel())
  starts = np.cumsum(kinds.sum(1)) - kinds.sum(1)
  chance, _ = draws.words(
    draws.key(seed, "order of households"),
    census.tract[tract].astype(np.uint32),
    (np.arange(len(tract)) - starts[tract]).astype(np.uint32),
  )
  quarters = kind == columns - 1
  order = sorting.order(2 * tract + quarters, chance)
  size = np.append(tables.SIZES, 1).astype(np.int32)[kind]
  return tract[order], size[order], quarters[order]


def _children(
  person: _People,
  census: tables.Census,
  place: np.ndarray,
  size: np.ndarray,
  quarters: np.ndarray,
) -> np.ndarray:
  """Draws the children's places, without replacement, by their odds."""
  second = np.where(size > 2, _SECOND_OF_MANY, _SECOND_OF_TWO)
  odds = np.where(place > 1, _THIRD, second)
  odds = np.where(quarters, _QUARTERS, odds)
  # Gumbel's trick: the least score of all is drawn in proportion to its odds.
  score = np.log(-np.log(person.draw("child"))) - np.log(odds)
  score = np.where((place > 0) | quarters, score, np.inf)
  return person.rank(score) < census.ages[:, :2].sum(1)[person.tract]


def _ages(
  person: _People,
  census: tables.Census,
  household: np.ndarray,
  child: np.ndarray,
  place: np.ndarray,
  size: np.ndarray,
  quarters: np.ndarray,
) -> np.ndarray:
  """Ranks people from young to old, and cuts where the census says."""
  first = np.cumsum(size) - size
  family = _logit(person.draw("family")[first])
  parents = np.bincount(household, weights=child, minlength=len(size)) > 0
  # Parents are of middle age; those who live alone are somewhat older.
  family = np.where(parents, 0.4 * family, family + 0.5 * (size == 1))
  family = np.where(quarters, 1.5 * family, family)
  own = _logit(person.draw("age"))
  grown_up = (place > 1) & ~child  # children of the house, over 17
  adult = family[household] - 1.5 * grown_up + 0.3 * own
  score = np.where(child, family[household] + own - 100, adult)
  limits = np.cumsum(census.ages, axis=1)[:, :-1]
  ranks, age = person.rank(score), np.zeros(len(score), np.uint8)
  for limit in limits.T:
    age += ranks >= limit[person.tract]
  return age


def _logit(chance: np.ndarray) -> np.ndarray:
  return np.log(chance) - np.log1p(-chance)
