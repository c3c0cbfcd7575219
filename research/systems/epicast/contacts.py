"""Hazards of infection from whole-number counts of infectious contacts.

Each agent gives a weight, a multiple of 1/64, to the groups that it is in.
Weights are summed as integers, so the sum has no order; two or three of them
travel in one word of 32 bits. What a group's weight `n` does to a member is

$$h = \\mathrm{round}(n\\,(-\\log(1-p))\\,2^{26}), \\qquad
P(\\text{infected}) = 1 - \\exp(-2^{-26} \\sum h)$$

which for equal contacts is `1 - (1-p)^n`. The sum over contexts is an integer
too: a member's hazard is the same on every backend and in every order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, UInt8, UInt32

from research.systems.epicast import disease as disease_lib
from research.systems.epicast.disease import CONTEXTS, HAZARD_BITS, UNIT
from research.systems.epicast.population import people, tables

_AGES = len(tables.AGES)
_CAP = 0.2 * 2.0**32  # five terms of at most 12.8 nats fit in 32 bits
_TEN, _SIXTEEN = np.uint32(0x3FF), np.uint32(0xFFFF)


class Agents(NamedTuple):
  """What of an agent never changes: 13 bytes.

  Attributes:
    identity: names its random numbers, `[n]`.
    household: `[n]`.
    group: of the day, `[n]`.
    age: group, `[n]`.
  """

  identity: jax.Array
  household: jax.Array
  group: jax.Array
  age: jax.Array


class Places(NamedTuple):
  """Groups of groups; see `people.Population`."""

  cluster: jax.Array
  neighbourhood: jax.Array
  community: jax.Array
  county: jax.Array
  kind: jax.Array
  school: jax.Array
  place: jax.Array


class Tables(NamedTuple):
  """Weights and hazards of one scenario; `c` is stage and behaviour.

  Attributes:
    night: words that an agent gives, `[2 c, 2]`; child, then adult.
    day: words that an agent gives, `[2 c, 2]`; in a class, then at work.
    household: from children and adults, `[2, behaviours * ages]`.
    cluster: likewise.
    night_place: in neighbourhood and community, likewise.
    day_place: likewise, by day.
    group: of a day group, `[kinds, behaviours]`.
    school: of the other classes of a school, `[kinds, behaviours]`.
    presymptomatic_days: length of P.
  """

  night: jax.Array
  day: jax.Array
  household: jax.Array
  cluster: jax.Array
  night_place: jax.Array
  day_place: jax.Array
  group: jax.Array
  school: jax.Array
  presymptomatic_days: jax.Array


def compile_tables(
  disease: disease_lib.Disease,
  contacts: disease_lib.Contacts,
  behaviours: disease_lib.Behaviours,
) -> Tables:
  """Compiles parameters to the tables that the steps look up."""
  of = CONTEXTS.index
  gives = disease_lib.infectiousness(disease)[:, None, None] * behaviours.emits
  gives = np.rint(gives / UNIT).astype(np.uint32).reshape(-1, len(CONTEXTS))
  column = lambda name: gives[:, of(name)]
  nobody = np.zeros_like(column("work"))

  def pack(bits, *fields):
    return sum(field << np.uint32(bits * i) for i, field in enumerate(fields))

  def night(inner, outer):
    child = pack(10, column(inner), nobody, column(outer))
    adult = pack(10, nobody, column(inner), column(outer))
    return np.stack((child, adult), 1).ravel()

  around = pack(16, column("day_neighbourhood"), column("day_community"))
  group = (pack(16, column("class"), column("school")), column("work"))
  unit = 2.0**HAZARD_BITS / UNIT
  hazards = contacts.hazards()
  takes = behaviours.receives / UNIT

  def rows(*pairs):
    return np.stack(
      [
        np.outer(takes[:, of(context)], hazards[name] * unit).ravel()
        for context, name in pairs
      ]
    ).astype(np.float32)

  kinds = np.zeros((len(people.Kind), len(takes)))
  kinds[people.Kind.WORK] = hazards["work"] * takes[:, of("work")]
  first = people.Kind.PRESCHOOL
  kinds[first:] = np.outer(hazards["classes"], takes[:, of("class")])
  mixing = np.zeros_like(kinds)
  mixing[first:] = hazards["school"] * takes[:, of("school")]
  arrays = dict(
    night=np.stack(
      (night("household", "neighbourhood"), night("cluster", "community")), 1
    ),
    day=np.stack((np.stack(group, 1).ravel(), np.repeat(around, 2)), 1),
    household=rows(
      ("household", "household_child"), ("household", "household_adult")
    ),
    cluster=rows(("cluster", "cluster_child"), ("cluster", "cluster_adult")),
    night_place=rows(
      ("neighbourhood", "neighbourhood"), ("community", "community")
    ),
    day_place=rows(
      ("day_neighbourhood", "neighbourhood"), ("day_community", "community")
    ),
    group=(kinds * unit).astype(np.float32),
    school=(mixing * unit).astype(np.float32),
    presymptomatic_days=np.uint8(disease.presymptomatic_days),
  )
  return Tables(**{name: jnp.asarray(array) for name, array in arrays.items()})


def night(
  agents: Agents,
  places: Places,
  tables: Tables,
  scale: Float32[Array, "counties contexts"],
  stage: UInt8[Array, " n"],
  behaviour: UInt8[Array, " n"],
) -> UInt32[Array, " n"]:
  """Hazards of a night: household, cluster, neighbourhood, community.

  Args:
    agents: who they are.
    places: where they are.
    tables: of the scenario.
    scale: of the contexts, that day.
    stage: of each agent.
    behaviour: of each agent.

  Returns:
    Hazards in 2^-26 nats.
  """
  adult = (agents.age >= 2).astype(jnp.int32)
  given = _given(tables.night, tables, stage, behaviour, adult)
  homes = len(places.cluster)
  inner, outer = (_sum(word, agents.household, homes) for word in given)
  own = (inner & _TEN, inner >> 10 & _TEN)
  near = (outer & _TEN, outer >> 10 & _TEN)
  clusters = len(places.neighbourhood)
  around = _sum(inner >> 20 | outer >> 20 << 16, places.cluster, clusters)
  both = _sum(near[0] | near[1] << 16, places.cluster, clusters)[places.cluster]
  others = (both & _SIXTEEN) - near[0], (both >> 16) - near[1]

  where = places.neighbourhood[places.cluster]
  county = places.county[where]
  table = _around(
    around, places.neighbourhood, places, tables.night_place, scale, ""
  )
  choice = behaviour.astype(jnp.int32) * _AGES + agents.age
  width = tables.night_place.shape[1]
  hazard = _get(table, _get(where, agents.household) * width + choice)
  for counts, rates, context in (
    (own, tables.household, "household"),
    (others, tables.cluster, "cluster"),
  ):
    scaled = _of(scale, context, county)
    for count, rate in zip(counts, rates, strict=True):
      weight = count.astype(jnp.float32) * scaled
      hazard += _whole(_get(weight, agents.household) * _get(rate, choice))
  return hazard


def day(
  agents: Agents,
  places: Places,
  tables: Tables,
  scale: Float32[Array, "counties contexts"],
  stage: UInt8[Array, " n"],
  behaviour: UInt8[Array, " n"],
) -> UInt32[Array, " n"]:
  """Hazards of a day: class and school or work group, and what is around.

  Args and result are those of `night`.
  """
  groups = len(places.kind)
  works = (places.kind == people.Kind.WORK).astype(jnp.int32)
  given = _given(
    tables.day, tables, stage, behaviour, _get(works, agents.group)
  )
  inner, outer = (_sum(word, agents.group, groups) for word in given)
  own, mixing = inner & _SIXTEEN, inner >> 16
  others = _sum(mixing, places.school, groups)[places.school] - mixing

  county = places.county[places.place]
  at_work, in_class, at_school = (
    _of(scale, name, county) for name in ("work", "class", "school")
  )
  met = own.astype(jnp.float32) * jnp.where(works == 1, at_work, in_class)
  mixed = others.astype(jnp.float32) * at_school
  table = _whole(met[:, None] * tables.group[places.kind])
  table += _whole(mixed[:, None] * tables.school[places.kind])
  hazard = _get(
    table.ravel(), agents.group * table.shape[1] + behaviour.astype(jnp.int32)
  )
  around = _around(outer, places.place, places, tables.day_place, scale, "day_")
  choice = behaviour.astype(jnp.int32) * _AGES + agents.age
  width = tables.day_place.shape[1]
  spot = _get(places.place, agents.group) * width + choice
  return hazard + _get(around, spot)


def chance(hazard: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
  """The word of 32 bits below which a draw infects."""
  nats = hazard.astype(jnp.float32) * np.float32(2.0**-HAZARD_BITS)
  probability = jnp.minimum(-jnp.expm1(-nats), np.float32(1 - 2.0**-24))
  return (probability * np.float32(2.0**32)).astype(jnp.uint32)


def _given(
  table: jax.Array,
  tables: Tables,
  stage: UInt8[Array, " n"],
  behaviour: UInt8[Array, " n"],
  half: Int32[Array, " n"],
) -> tuple[jax.Array, jax.Array]:
  """The two words that each agent gives to its group."""
  behaviours = tables.group.shape[1]
  code = stage.astype(jnp.int32) * behaviours + behaviour
  code = 2 * code + half
  return _get(table[:, 0], code), _get(table[:, 1], code)


def _around(
  words: UInt32[Array, " g"],
  where: Int32[Array, " g"],
  places: Places,
  rates: Float32[Array, "2 choices"],
  scale: Float32[Array, "counties contexts"],
  prefix: str,
) -> UInt32[Array, " all_choices"]:
  """Hazards in each neighbourhood, by behaviour and age.

  The community's people outside the neighbourhood count apart.
  """
  spots = len(places.community)  # and no more communities than that
  near = _sum(words & _SIXTEEN, where, spots)
  far = _sum(words >> 16, where, spots)
  far = _sum(far, places.community, spots)[places.community] - far
  total = jnp.zeros((spots, rates.shape[1]), jnp.uint32)
  for count, rate, name in zip(
    (near, far), rates, ("neighbourhood", "community"), strict=True
  ):
    weight = count.astype(jnp.float32)
    weight *= _of(scale, prefix + name, places.county)
    total += _whole(weight[:, None] * rate[None])
  return jnp.minimum(total, np.uint32(_CAP)).ravel()


def _sum(
  words: UInt32[Array, " n"], group: Int32[Array, " n"], groups: int
) -> UInt32[Array, " groups"]:
  zeros = jnp.zeros(groups, jnp.uint32)
  return zeros.at[group].add(words, mode="promise_in_bounds")


def _of(scale: jax.Array, context: str, county: jax.Array) -> jax.Array:
  """Scales of a context where groups are."""
  return _get(scale[:, CONTEXTS.index(context)], county)


def _get(table: jax.Array, index: jax.Array) -> jax.Array:
  return table.at[index].get(mode="promise_in_bounds")


def _whole(hazard: jax.Array) -> jax.Array:
  return jnp.rint(jnp.minimum(hazard, np.float32(_CAP))).astype(jnp.uint32)
