"""A census and flows for any number of people, from published margins.

The margins are those of the Bay Area's 1,405 tracts in the 2000 census; places
are on a line, and work is nearer than far.
"""

import numpy as np

from research.runs import errors
from research.systems.epicast import draws
from research.systems.epicast.population import tables

_AGES = np.array([0.064, 0.184, 0.153, 0.488, 0.112])
_SIZES = np.array([0.258, 0.311, 0.160, 0.142, 0.068, 0.032, 0.029])
_IN_HOUSEHOLDS = 0.968  # the others live in quarters
_WORKERS = 0.475  # of all people
_AT_HOME = 0.089  # of workers, in their own tract
_TRACT = 4800  # mean people of a tract
_SPREAD = 0.4  # of the logarithm of their sizes


def region(
  people: int, *, counties: int = 1, seed: int = 0
) -> tuple[tables.Census, tables.Flows]:
  """Makes a region.

  Args:
    people: exactly so many live there.
    counties: neighbours in a row; their FIPS codes are 1, 2, 3, ...
    seed: of the sizes of tracts.

  Returns:
    The census and the flows of workers.

  Raises:
    UserError: fewer than 100 people a county.

  Example:
    >>> census, flows = region(10_000, counties=2)
    >>> int(census.people.sum()), sorted(set(census.fips.tolist()))
    (10000, [1, 2])
  """
  if people < 100 * counties or counties < 1:
    raise errors.UserError(
      f"got {people} people in {counties} counties; expected at least 100 in "
      "each: ask for more people or fewer counties"
    )
  count = max(counties, round(people / _TRACT))
  index = np.arange(count)
  noise, _ = draws.words(
    draws.key(seed, "size of tract"),
    index.astype(np.uint32),
    np.zeros(count, np.uint32),
  )
  weights = np.exp(_SPREAD * (2 * draws.uniform(noise) - 1))
  size = tables.shares(people, weights)
  ages = np.array([tables.shares(int(n), _AGES) for n in size])
  households = size * _IN_HOUSEHOLDS / (_SIZES @ tables.SIZES)
  homes = np.floor(households[:, None] * _SIZES).astype(np.int64)
  flows = _flows(size)
  census = tables.Census(
    tract=index + 1,
    fips=index * counties // count + 1,
    day_workers=np.bincount(
      flows.work - 1, weights=flows.workers, minlength=count
    ).astype(np.int64),
    ages=ages,
    households=homes,
  )
  return census, flows


def _flows(size: np.ndarray) -> tables.Flows:
  """Home tract first, the others by their size over distance squared."""
  index = np.arange(len(size))
  near = size[None] / np.maximum(np.abs(index[:, None] - index[None]), 1) ** 2
  near[index, index] = 0
  away = near.sum(1, keepdims=True)
  odds = (1 - _AT_HOME) * near / np.where(away > 0, away, 1)
  odds[index, index] = np.where(away[:, 0] > 0, _AT_HOME, 1)
  workers = np.array(
    [
      tables.shares(int(_WORKERS * people), row)
      for people, row in zip(size, odds, strict=True)
    ]
  )
  home, work = np.nonzero(workers)
  return tables.Flows(home + 1, work + 1, workers[home, work])
