"""Changes of contacts by date and county, compiled before the run."""

import dataclasses
import datetime
import difflib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.runs import errors
from research.systems.epicast import disease
from research.systems.epicast.population import tables

GROUPS = {
  "schools": ("class", "school"),
  "social": (
    "cluster",
    "neighbourhood",
    "community",
    "day_neighbourhood",
    "day_community",
  ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
  """From a day on, contacts of some counties have another strength.

  Attributes:
    day: of the run, from 0, or a date.
    context: one of `disease.CONTEXTS`, or `schools`, or `social`.
    scale: multiplies the hazards; 0 closes, 1 opens again.
    fips: codes of counties where the contact takes place; all if empty.
  """

  day: int | datetime.date
  context: str
  scale: float | int
  fips: Sequence[int] = ()


class Policies(NamedTuple):
  """What is in force on each day.

  Attributes:
    since: first day of each row of `scale`, `[rows]`.
    scale: `[rows, counties, contexts]`.
  """

  since: jax.Array
  scale: jax.Array


def compile_changes(
  changes: Sequence[Change],
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
  scale = np.ones((len(fips), len(disease.CONTEXTS)), np.float32)
  since, rows = [0], [scale]
  for index in np.argsort(days, kind="stable"):
    change, day = changes[index], days[index]
    where = np.ones(len(fips), bool)
    if change.fips:
      tables.require_counties(np.array(change.fips), fips)
      where = np.isin(fips, change.fips)
    if not 0 <= change.scale < np.inf:
      raise errors.UserError(
        f"policy on {change.context!r}: got a scale of {change.scale}; "
        "expected zero or more"
      )
    if day != since[-1]:
      since.append(day)
      rows.append(rows[-1].copy())
    for context in _contexts(change.context):
      rows[-1][where, context] = change.scale
  return Policies(jnp.array(since, jnp.int32), jnp.asarray(np.stack(rows)))


def _day(change: Change, start: datetime.date | None) -> int:
  day = change.day
  if isinstance(day, datetime.date):
    if start is None:
      raise errors.UserError(
        f"policy of {day}: got a date, but the run has no start date; give one"
      )
    day = (day - start).days
  if day < 0:
    raise errors.UserError(
      f"policy on {change.context!r}: got day {day}; expected 0 or later"
    )
  return day


def _contexts(name: str) -> list[int]:
  known = (*disease.CONTEXTS, *GROUPS)
  if name not in known:
    near = difflib.get_close_matches(name, known, 1, 0)[0]
    raise errors.UserError(
      f"got context {name!r}; expected one of {', '.join(known)}: did you mean "
      f"{near!r}?"
    )
  return [disease.CONTEXTS.index(part) for part in GROUPS.get(name, (name,))]
