"""Changes of contacts by date and county, compiled before the run."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.runs import errors
from research.systems.epicast import disease
from research.systems.epicast.population import tables

_ROWS = 8
_NEVER = 2**31 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
  """From a day on, contacts of some counties have another strength.

  Attributes:
    day: of the run, from 0, or a date.
    context: one of `disease.CONTEXTS`, or of `disease.GROUPS`.
    scale: multiplies the hazards; 0 closes, 1 opens again.
    fips: codes of counties where the contact takes place; all if empty.
  """

  day: int | datetime.date
  context: str
  scale: float | int
  fips: Sequence[int] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shelter:
  """From a day on, residents of some counties are to stay at home.

  Who complies meets nobody but the own household. The same people comply with
  every such order, so that more compliance only adds some.

  Attributes:
    day: of the run, from 0, or a date.
    compliance: share of people who do, in steps of 1/256; 0 lifts the order.
    fips: codes of counties whose residents are meant; all if empty.
  """

  day: int | datetime.date
  compliance: float | int
  fips: Sequence[int] = ()

  def __post_init__(self):
    disease.require_chance("shelter: compliance", self.compliance)


class Policies(NamedTuple):
  """What is in force on each day.

  Attributes:
    since: first day of each row of `scale`, `[rows]`; rows that never come
      fill up to a multiple of 8, for one compiled run of many scenarios.
    scale: `[rows, counties, contexts]`.
    orders: share of residents who stay at home, in 1/256, `[rows, counties]`;
      nothing if there are no orders.
  """

  since: jax.Array
  scale: jax.Array
  orders: jax.Array | None


def compile_changes(
  changes: Sequence[Change | Shelter],
  fips: np.ndarray,
  start: datetime.date | None = None,
) -> Policies:
  """Compiles changes to arrays.

  Args:
    changes: in any order; those of one day apply as they are listed.
    fips: codes of the region's counties.
    start: date of day 0, for changes with dates.

  Raises:
    UserError: a context or county is unknown, a scale negative, a day before
      the start.
  """
  days = [_day(change, start) for change in changes]
  since = [0]
  scales = [np.ones((len(fips), len(disease.CONTEXTS)), np.float32)]
  orders = [np.zeros(len(fips), np.int32)]
  for index in np.argsort(days, kind="stable"):
    change, day = changes[index], days[index]
    if day != since[-1]:
      since.append(day)
      scales.append(scales[-1].copy())
      orders.append(orders[-1].copy())
    where = _where(change, fips)
    if isinstance(change, Shelter):
      orders[-1][where] = round(256 * change.compliance)
    else:
      for context in _contexts(change):
        scales[-1][where, context] = change.scale
  ordered = any(isinstance(change, Shelter) for change in changes)
  empty = -len(since) % _ROWS
  since += [_NEVER] * empty
  scales += scales[-1:] * empty
  orders += orders[-1:] * empty
  return Policies(
    jnp.array(since, jnp.int32),
    jnp.asarray(np.stack(scales)),
    jnp.asarray(np.stack(orders)) if ordered else None,
  )


def _where(change: Change | Shelter, fips: np.ndarray) -> np.ndarray:
  if not change.fips:
    return np.ones(len(fips), bool)
  tables.require_counties(np.array(change.fips), fips)
  return np.isin(fips, change.fips)


def _contexts(change: Change) -> list[int]:
  if not 0 <= change.scale < np.inf:
    raise errors.UserError(
      f"policy on {change.context!r}: got a scale of {change.scale}; "
      "expected zero or more"
    )
  return disease.contexts(change.context)


def _day(change: Change | Shelter, start: datetime.date | None) -> int:
  day = change.day
  if isinstance(day, datetime.date):
    if start is None:
      raise errors.UserError(
        f"policy of {day}: got a date, but the run has no start date; give one"
      )
    day = (day - start).days
  if day < 0:
    raise errors.UserError(f"policy: got day {day}; expected 0 or later")
  return day
