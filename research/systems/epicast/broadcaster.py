"""Media that frighten people far from any illness."""

import dataclasses
import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt32

from research.runs import errors
from research.systems.epicast import groups
from research.systems.epicast.disease import HAZARD_BITS

Number = float | int


class Level(enum.StrEnum):
  """Whose illness a broadcaster reports, and to whom."""

  NATION = "nation"
  STATE = "state"
  COUNTY = "county"


class Signal(enum.StrEnum):
  """What it reports: people with symptoms, or those new that day."""

  PREVALENCE = "prevalence"
  INCIDENCE = "incidence"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broadcaster:
  """A source of fear that needs no contact.

  In a region where a share `s` of the people had (or got) symptoms, averaged
  over days `t - lag - average + 1` to `t - lag`, the hazard of day `t` is
  `strength * s` for a mean listener, as long as it is on air.

  Attributes:
    strength: hazard per day and share of people, for a mean listener.
    level: region whose share counts, and which hears it.
    signal: what the share is of.
    lag: days from what happens to the report, 1 or more.
    average: days that the share is averaged over.
    threshold: share from which it goes on air.
    until: share below which it goes off again, at most `threshold`.

  Raises:
    UserError: a number is out of range.

  Example:
    >>> Broadcaster(strength=20, level=Level.COUNTY, threshold=1e-3).until
    0.0
  """

  strength: Number
  level: Level = Level.NATION
  signal: Signal = Signal.INCIDENCE
  lag: int = 1
  average: int = 7
  threshold: Number = 0.0
  until: Number = 0.0

  def __post_init__(self):
    if not 0 <= self.strength < float("inf"):
      raise errors.UserError(
        f"broadcaster: got a strength of {self.strength}; expected zero or more"
      )
    if self.lag < 1 or self.average < 1:
      raise errors.UserError(
        f"broadcaster: got a lag of {self.lag} and an average over "
        f"{self.average} days; expected 1 or more: today's numbers are not "
        "there yet"
      )
    if not 0 <= self.until <= self.threshold <= 1:
      raise errors.UserError(
        f"broadcaster: got on from {self.threshold} and off below {self.until};"
        " expected shares from 0 to 1, the second at most the first"
      )


class Station(NamedTuple):
  """A broadcaster of a region.

  Attributes:
    region: of each county, `[counties]`.
    listeners: people in the region of each county, `[counties]`.
    strength: hazard per half-day and share, in 2^-26 nats.
    threshold: share from which it goes on air.
    until: share below which it goes off.
    incidence: whether new cases count.
    average: which of the reports count, as 0 or 1, oldest first, `[days]`.
  """

  region: jax.Array
  listeners: jax.Array
  strength: jax.Array
  threshold: jax.Array
  until: jax.Array
  incidence: jax.Array
  average: jax.Array


class Log(NamedTuple):
  """What a broadcaster remembers.

  Attributes:
    reports: of each county, oldest first, `[days, counties]`.
    on_air: in the region of each county, `[counties]`.
  """

  reports: jax.Array
  on_air: jax.Array


def compile_station(
  broadcaster: Broadcaster, fips: np.ndarray, residents: np.ndarray
) -> Station:
  """Compiles a broadcaster for a region.

  Args:
    broadcaster: what it is.
    fips: codes of counties, `[counties]`; the state is the code over 1000.
    residents: of each county, `[counties]`.
  """
  _, region = np.unique(
    {
      Level.NATION: np.zeros(len(fips)),
      Level.STATE: fips // 1000,
      Level.COUNTY: fips,
    }[Level(broadcaster.level)],
    return_inverse=True,
  )
  listeners = np.bincount(region, residents)[region]
  delay = np.zeros(broadcaster.lag - 1)
  return Station(
    region=jnp.asarray(region, jnp.int32),
    listeners=jnp.asarray(np.maximum(listeners, 1), jnp.float32),
    strength=jnp.float32(0.5 * broadcaster.strength * 2.0**HAZARD_BITS),
    threshold=jnp.float32(broadcaster.threshold),
    until=jnp.float32(broadcaster.until),
    incidence=jnp.asarray(broadcaster.signal == Signal.INCIDENCE),
    average=jnp.asarray(np.append(np.ones(broadcaster.average), delay), "i4"),
  )


def first_log(station: Station) -> Log:
  """Returns the log of a station before the first day."""
  shape = len(station.average), len(station.region)
  return Log(jnp.zeros(shape, jnp.int32), jnp.zeros(shape[1], bool))


def air(station: Station, log: Log) -> tuple[UInt32[Array, " counties"], Log]:
  """What a mean listener hears today.

  Args:
    station: who broadcasts.
    log: of the days before.

  Returns:
    Hazards per half-day in 2^-26 nats, and the log with what is on air.
  """
  days = station.average.sum()
  people = (log.reports * station.average[:, None]).sum(0)
  people = jnp.zeros_like(people).at[station.region].add(people)[station.region]
  share = people.astype(jnp.float32) / (station.listeners * days)
  limit = jnp.where(log.on_air, station.until, station.threshold)
  on_air = share >= limit
  heard = groups.whole(station.strength * share)
  return jnp.where(on_air, heard, 0), log._replace(on_air=on_air)


def listen(
  station: Station,
  log: Log,
  prevalence: Int32[Array, " counties"],
  incidence: Int32[Array, " counties"],
) -> Log:
  """Adds the reports of a day to a log.

  Args:
    station: who broadcasts.
    log: of the days before.
    prevalence: people with symptoms at the end of the day.
    incidence: people who got them that day.
  """
  new = jnp.where(station.incidence, incidence, prevalence)
  reports = jnp.concatenate((log.reports[1:], new[None]))
  return log._replace(reports=reports)
