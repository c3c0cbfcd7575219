"""What each agent carries of fear, and how half a day changes it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt8, UInt32

from research.systems.epicast import (
  behaviours,
  broadcaster,
  draws,
  frights,
  groups,
)
from research.systems.epicast.disease import HAZARD_BITS, UNIT, Stage
from research.systems.epicast.fear import Fear

_FEARFUL = np.uint8(1)


class Tables(NamedTuple):
  """Fear as compiled.

  Attributes:
    local: contagion by contact; nothing if there is none.
    symptoms: hazard of getting symptoms, in 2^-26 nats.
    recovery: hazard of recovering from them.
    fading: hazard per half-day that fear goes.
    stations: broadcasters.
  """

  local: frights.Tables | None
  symptoms: jax.Array
  recovery: jax.Array
  fading: jax.Array
  stations: tuple[broadcaster.Station, ...]


class Minds(NamedTuple):
  """What a run changes of fear: a byte an agent, two with broadcasters.

  Attributes:
    key: of the draws.
    mind: bit 0: fearful; the others: which behaviours it complies with, `[n]`.
    media: susceptibility to broadcasters in 1/64, `[n]`; nothing if there are
      none.
    logs: of broadcasters.
  """

  key: jax.Array
  mind: jax.Array
  media: jax.Array | None
  logs: tuple[broadcaster.Log, ...]


def compile_tables(
  fear: Fear,
  table: behaviours.Table,
  fips: np.ndarray,
  residents: np.ndarray,
) -> Tables:
  """Compiles fear to what the half-steps look up.

  Args:
    fear: what is compiled.
    table: what people do.
    fips: codes of counties.
    residents: people of each county.
  """
  hazards = fear.phi_ff, fear.phi_sf, fear.gamma_r
  with np.errstate(divide="ignore"):
    recovery = -np.log1p(-np.float64(fear.rho_f))
  whole = lambda nats: jnp.uint32(
    np.rint(np.minimum(nats * 2.0**HAZARD_BITS, groups.CAP))
  )
  return Tables(
    local=frights.compile_tables(hazards, fear.weights, table),
    symptoms=whole(fear.phi_self),
    recovery=whole(recovery),
    fading=whole(fear.gamma_f / 2),
    stations=tuple(
      broadcaster.compile_station(source, fips, residents)
      for source in fear.broadcasters
    ),
  )


def draw(
  fear: Fear,
  agent: UInt32[Array, " n"],
  present: Bool[Array, " n"],
  *,
  seed: int,
  replicate: int,
) -> tuple[UInt8[Array, " n"], UInt8[Array, " n"] | None]:
  """Draws who is fearful at the start, who complies, who listens how much.

  Args:
    fear: chances.
    agent: identities.
    present: who is no filling.
    seed: of the experiment.
    replicate: which run of it.

  Returns:
    `mind` and `media` of `Minds`.
  """

  def bits(decision):
    key = jnp.asarray(draws.key(seed, decision, replicate))
    return draws.words(key, agent, jnp.zeros_like(agent))[0]

  chances = {"initial fear": fear.initial} | {
    f"compliance with {item.name}": item.compliance for item in fear.behaviours
  }
  mind = jnp.zeros(agent.shape, jnp.uint8)
  for bit, (decision, chance) in enumerate(chances.items()):
    yes = (bits(decision) < draws.threshold(chance)) & present
    mind |= yes.astype(jnp.uint8) << bit
  media = None
  if fear.broadcasters:
    shift = bits("media").astype(jnp.float32) * np.float32(2.0**-31) - 1
    media = jnp.rint(UNIT * (1 + np.float32(fear.media_spread) * shift))
    media = media.astype(jnp.uint8)
  return mind, media


def first_logs(tables: Tables) -> tuple[broadcaster.Log, ...]:
  """Logs of all broadcasters before the first day."""
  return tuple(broadcaster.first_log(one) for one in tables.stations)


def fearful(mind: UInt8[Array, " n"]) -> Bool[Array, " n"]:
  """Who is fearful."""
  return (mind & _FEARFUL) == 1


def reasons(mind: UInt8[Array, " n"]) -> UInt8[Array, " n"]:
  """Bits of the behaviours that the fearful show, from `behaviours.FEAR` on."""
  return jnp.where(fearful(mind), mind & ~_FEARFUL, 0).astype(jnp.uint8)


def heard(
  tables: Tables, logs: tuple[broadcaster.Log, ...], counties: int
) -> tuple[UInt32[Array, " counties"], tuple[broadcaster.Log, ...]]:
  """What all broadcasters together say to a mean listener; see `air`."""
  total, after = jnp.zeros(counties, jnp.uint32), []
  for station, log in zip(tables.stations, logs, strict=True):
    said, log = broadcaster.air(station, log)
    total = groups.together(total, said)
    after.append(log)
  return total, tuple(after)


def listen(
  tables: Tables,
  logs: tuple[broadcaster.Log, ...],
  prevalence: Int32[Array, " counties"],
  incidence: Int32[Array, " counties"],
) -> tuple[broadcaster.Log, ...]:
  """Tells all broadcasters how a day was."""
  return tuple(
    broadcaster.listen(station, log, prevalence, incidence)
    for station, log in zip(tables.stations, logs, strict=True)
  )


def hazard(
  tables: Tables,
  before: UInt8[Array, " n"],
  stage: UInt8[Array, " n"],
  mind: UInt8[Array, " n"],
  media: UInt32[Array, " n"] | None,
) -> UInt32[Array, " n"]:
  """Hazards that fear comes, or goes, other than by contact.

  Args:
    tables: of `compile_tables`.
    before: stage half a day ago.
    stage: of each agent.
    mind: of each agent.
    media: what each agent hears.

  Returns:
    Hazards in 2^-26 nats.
  """
  fell_ill = (stage == Stage.IS) & (before == Stage.P)
  recovered = (stage == Stage.RS) & (before == Stage.IS)
  comes = jnp.where(fell_ill, tables.symptoms, jnp.uint32(0))
  comes = jnp.where(recovered, tables.recovery, comes)
  if media is not None:
    comes = groups.together(comes, media)
  return jnp.where(fearful(mind), tables.fading, comes)


def flip(
  mind: UInt8[Array, " n"],
  stage: UInt8[Array, " n"],
  hazard: UInt32[Array, " n"],
  bits: UInt32[Array, " n"],
) -> UInt8[Array, " n"]:
  """Lets fear come or go.

  Args:
    mind: of each agent.
    stage: of each agent; the absent keep their minds.
    hazard: that it changes, in 2^-26 nats.
    bits: drawn.
  """
  flips = (bits < groups.chance(hazard)) & (stage != Stage.ABSENT)
  return mind ^ flips.astype(jnp.uint8)
