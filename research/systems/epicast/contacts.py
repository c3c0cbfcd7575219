"""Hazards of infection from whole-number counts of infectious contacts.

Each agent gives a weight, a multiple of 1/64, to the groups that it is in.
Weights are summed as integers, so the sum has no order; two or three of them
travel in one word of 32 bits. What a group's weight `n` does to a member is

$$h = \\mathrm{round}(n\\,(-\\log(1-p))\\,2^{26}), \\qquad
P(\\text{infected}) = 1 - \\exp(-2^{-26} \\sum h)$$

which for equal contacts is `1 - (1-p)^n`. The sum over contexts is an integer
too: a member's hazard is the same on every backend and in every order. Half a
day has three parts, so that agents can come in blocks: they give words to their
groups, groups turn sums into rates, agents look their hazards up.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, UInt8, UInt32

from research.systems.epicast import behaviours as behaviours_lib
from research.systems.epicast import disease as disease_lib
from research.systems.epicast import groups
from research.systems.epicast.disease import CONTEXTS, HAZARD_BITS, UNIT
from research.systems.epicast.population import people, tables

_AGES = len(tables.AGES)
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
  """Weights and hazards of one scenario.

  Codes `c` are of a stage and a row of `behaviours.Table`.

  Attributes:
    night: words that an agent gives, `[2 c, 2]`; child, then adult.
    day: words that an agent gives, `[2 c, 2]`; in a class, then at work.
    household: from children and adults, `[2, rows * ages]`.
    cluster: likewise.
    night_place: in neighbourhood and community, likewise.
    day_place: likewise, by day.
    group: of a day group, `[kinds, rows]`.
    school: of the other classes of a school, `[kinds, rows]`.
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
  behaviours: behaviours_lib.Table,
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


class Rates(NamedTuple):
  """Hazards of groups, for agents to look up.

  Attributes:
    groups: one array or more, by household or day group.
    spots: neighbourhood of each household or day group.
    around: by neighbourhood, set of reasons and age, flat.
  """

  groups: tuple[jax.Array, ...]
  spots: jax.Array
  around: jax.Array


class Half(NamedTuple):
  """Half a day.

  Attributes:
    group: household or day group of each agent.
    words: `(agents, places, tables, stage, row)` to words given to the group.
    rates: `(sums of words, places, tables, scale)` to `Rates`.
    hazard: `(rates, agents, tables, row)` to hazards in 2^-26 nats.
  """

  group: Callable[[Agents], jax.Array]
  words: Callable[..., tuple[jax.Array, ...]]
  rates: Callable[..., Rates]
  hazard: Callable[..., jax.Array]


def _night_words(
  agents: Agents,
  places: Places,
  tables: Tables,
  stage: UInt8[Array, " n"],
  row: UInt8[Array, " n"],
) -> tuple[jax.Array, ...]:
  """Child or adult in household and cluster; then what is around."""
  del places
  adult = (agents.age >= 2).astype(jnp.int32)
  return _given(tables.night, tables, stage, row, adult)


def _night_rates(
  sums: tuple[jax.Array, ...],
  places: Places,
  tables: Tables,
  scale: Float32[Array, "counties contexts"],
) -> Rates:
  """Weights of children and adults of a household, and of its cluster."""
  inner, outer = sums
  own = (inner & _TEN, inner >> 10 & _TEN)
  near = (outer & _TEN, outer >> 10 & _TEN)
  clusters = len(places.neighbourhood)
  around = groups.add(inner >> 20 | outer >> 20 << 16, places.cluster, clusters)
  both = groups.add(near[0] | near[1] << 16, places.cluster, clusters)
  both = both[places.cluster]
  others = (both & _SIXTEEN) - near[0], (both >> 16) - near[1]
  spots = places.neighbourhood[places.cluster]
  county = places.county[spots]
  scaled = []
  for counts, context in ((own, "household"), (others, "cluster")):
    factor = groups.scale_of(scale, context, county)
    scaled += [count.astype(jnp.float32) * factor for count in counts]
  table = _around(
    around, places.neighbourhood, places, tables.night_place, scale, ""
  )
  return Rates(tuple(scaled), spots, table)


def _night_hazard(
  rates: Rates,
  agents: Agents,
  tables: Tables,
  row: UInt8[Array, " n"],
) -> UInt32[Array, " n"]:
  choice = row.astype(jnp.int32) * _AGES + agents.age
  spot = groups.get(rates.spots, agents.household)
  hazard = groups.get(rates.around, spot * tables.night_place.shape[1] + choice)
  for weight, rate in zip(
    rates.groups, (*tables.household, *tables.cluster), strict=True
  ):
    met = groups.get(weight, agents.household)
    hazard += groups.whole(met * groups.get(rate, choice))
  return hazard


def _day_words(
  agents: Agents,
  places: Places,
  tables: Tables,
  stage: UInt8[Array, " n"],
  row: UInt8[Array, " n"],
) -> tuple[jax.Array, ...]:
  """Class and school, or work group; then what is around."""
  return _given(tables.day, tables, stage, row, at_work(agents, places))


def _day_rates(
  sums: tuple[jax.Array, ...],
  places: Places,
  tables: Tables,
  scale: Float32[Array, "counties contexts"],
) -> Rates:
  """Hazards of a class with its school, or of a work group, by reasons."""
  inner, outer = sums
  own, mixing = inner & _SIXTEEN, inner >> 16
  others = groups.add(mixing, places.school, len(places.kind))
  others = others[places.school] - mixing
  county = places.county[places.place]
  work, classes, school = (
    groups.scale_of(scale, name, county) for name in ("work", "class", "school")
  )
  working = places.kind == people.Kind.WORK
  met = own.astype(jnp.float32) * jnp.where(working, work, classes)
  mixed = others.astype(jnp.float32) * school
  table = groups.whole(met[:, None] * tables.group[places.kind])
  table += groups.whole(mixed[:, None] * tables.school[places.kind])
  around = _around(outer, places.place, places, tables.day_place, scale, "day_")
  return Rates((table.ravel(),), places.place, around)


def _day_hazard(
  rates: Rates,
  agents: Agents,
  tables: Tables,
  row: UInt8[Array, " n"],
) -> UInt32[Array, " n"]:
  rows = tables.group.shape[1]
  hazard = groups.get(
    rates.groups[0], agents.group * rows + row.astype(jnp.int32)
  )
  choice = row.astype(jnp.int32) * _AGES + agents.age
  spot = groups.get(rates.spots, agents.group)
  return hazard + groups.get(
    rates.around, spot * tables.day_place.shape[1] + choice
  )


NIGHT = Half(lambda a: a.household, _night_words, _night_rates, _night_hazard)
DAY = Half(lambda a: a.group, _day_words, _day_rates, _day_hazard)


def at_work(agents: Agents, places: Places) -> Int32[Array, " n"]:
  """Whether an agent's day group is one of work, as 0 or 1."""
  kind = groups.get(places.kind, agents.group)
  return (kind == people.Kind.WORK).astype(jnp.int32)


def _given(
  table: jax.Array,
  tables: Tables,
  stage: UInt8[Array, " n"],
  row: UInt8[Array, " n"],
  half: Int32[Array, " n"],
) -> tuple[jax.Array, jax.Array]:
  """The two words that each agent gives to its group."""
  code = stage.astype(jnp.int32) * tables.group.shape[1] + row
  code = 2 * code + half
  return groups.get(table[:, 0], code), groups.get(table[:, 1], code)


def _around(
  words: UInt32[Array, " g"],
  where: Int32[Array, " g"],
  places: Places,
  rates: Float32[Array, "2 choices"],
  scale: Float32[Array, "counties contexts"],
  prefix: str,
) -> UInt32[Array, " all_choices"]:
  """Hazards in each neighbourhood, by reasons and age.

  The community's people outside the neighbourhood count apart.
  """
  spots = len(places.community)  # and no more communities than that
  near = groups.add(words & _SIXTEEN, where, spots)
  far = groups.add(words >> 16, where, spots)
  far = groups.add(far, places.community, spots)[places.community] - far
  total = jnp.zeros((spots, rates.shape[1]), jnp.uint32)
  for count, rate, name in zip(
    (near, far), rates, ("neighbourhood", "community"), strict=True
  ):
    weight = count.astype(jnp.float32)
    weight *= groups.scale_of(scale, prefix + name, places.county)
    total += groups.whole(weight[:, None] * rate[None])
  return jnp.minimum(total, np.uint32(groups.CAP)).ravel()
