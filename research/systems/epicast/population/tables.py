"""What a population is made of: census tracts, and flows of workers."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from research.runs import errors

AGES = ("0-5", "6-17", "18-29", "30-64", "65+")
SIZES = np.arange(1, 8)  # of households; the last stands for 7 and more


@dataclasses.dataclass(frozen=True)
class Census:
  """Counts of census tracts.

  Attributes:
    tract: identifiers that flows use, `[tracts]`.
    fips: state and county code, `[tracts]`.
    day_workers: people who work there, `[tracts]`.
    ages: people in each group of `AGES`, `[tracts, 5]`.
    households: of 1 to 7 people, `[tracts, 7]`.
  """

  tract: np.ndarray
  fips: np.ndarray
  day_workers: np.ndarray
  ages: np.ndarray
  households: np.ndarray

  @property
  def people(self) -> np.ndarray:
    """Residents of each tract, `[tracts]`."""
    return self.ages.sum(1)

  def counties(self, fips: Iterable[int]) -> "Census":
    """Returns the tracts of some counties.

    Args:
      fips: codes of counties that are there.

    Raises:
      UserError: there is no such county.
    """
    wanted = np.array(sorted(fips))
    require_counties(wanted, self.fips)
    keep = np.isin(self.fips, wanted)
    arrays = (getattr(self, field.name) for field in dataclasses.fields(self))
    return Census(*(array[keep] for array in arrays))


@dataclasses.dataclass(frozen=True)
class Flows:
  """Workers from home tract to work tract.

  Attributes:
    home: identifiers of tracts, `[flows]`.
    work: identifiers of tracts, `[flows]`.
    workers: `[flows]`.
  """

  home: np.ndarray
  work: np.ndarray
  workers: np.ndarray


@dataclasses.dataclass(frozen=True)
class Cases:
  """Index cases by county.

  Attributes:
    fips: state and county code, `[counties]`.
    cases: `[counties]`.
  """

  fips: np.ndarray
  cases: np.ndarray


def require_counties(wanted: np.ndarray, known: np.ndarray) -> None:
  """Raises an error that names a county that is not known.

  Args:
    wanted: codes that a user gave.
    known: codes of the region.
  """
  missing = np.setdiff1d(wanted, known)
  if missing.size:
    near = known[np.argmin(np.abs(known - missing[0]))]
    raise errors.UserError(
      f"got county {missing[0]}, which has no tract in this region; expected "
      f"one of {np.unique(known).size} FIPS codes such as {near}"
    )


def shares(total: int, weights: np.ndarray) -> np.ndarray:
  """Divides a whole number by weights, by largest remainder.

  Args:
    total: what is divided.
    weights: at least zero, and not all zero.

  Example:
    >>> shares(10, np.array([1, 1, 1]))
    array([4, 3, 3])
  """
  exact = total * weights / weights.sum()
  parts = np.floor(exact).astype(np.int64)
  late = np.argsort(parts - exact, kind="stable")[: total - parts.sum()]
  parts[late] += 1
  return parts
