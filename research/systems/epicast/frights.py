"""Fear by contact: whole people are counted, who are there.

Each agent that is fearful (F), has symptoms (S) or has recovered (R) gives a
one to the groups that it is in and has not withdrawn from; three counts travel
in one word. A neutral agent then looks up the hazard of F and S, a fearful one
that of R, each without itself.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, UInt8, UInt32

from research.systems.epicast import contacts, groups
from research.systems.epicast.behaviours import Table
from research.systems.epicast.contacts import Agents, Places, Rates
from research.systems.epicast.disease import CONTEXTS, HAZARD_BITS, Stage
from research.systems.epicast.population import people

_NARROW, _WIDE = 4, 10  # bits of a count in households, and elsewhere


class Tables(NamedTuple):
  """What the half-steps look up.

  There are four places by night and by day: household and cluster, or work
  group or class and the other classes of the school; then neighbourhood and
  community.

  Attributes:
    rates: of F, S and R in each context, in 2^-26 nats, `[3, contexts]`.
    night: in which of the four places one is, as bits, `[rows]`.
    day: likewise, in a class and at work, `[rows * 2]`.
  """

  rates: jax.Array
  night: jax.Array
  day: jax.Array


def compile_tables(
  hazards: tuple[float | int, float | int, float | int],
  weights: Mapping[str, float | int],
  behaviours: Table,
) -> Tables | None:
  """Compiles local contagion; nothing if there is none.

  Args:
    hazards: per half-day and contact of F, S and R, in nats.
    weights: by context.
    behaviours: who is there.
  """
  by_context = np.array([weights.get(name, 0.0) for name in CONTEXTS])
  rates = np.outer(hazards, by_context) * 2.0**HAZARD_BITS
  if not rates.any():
    return None
  there = lambda *names: sum(
    behaviours.there[:, CONTEXTS.index(name)].astype(np.uint8) << bit
    for bit, name in enumerate(names)
  )
  around = ("day_neighbourhood", "day_community")
  day = there("class", "school", *around), there("work", "school", *around)
  return Tables(
    jnp.asarray(rates, jnp.float32),
    jnp.asarray(there(*CONTEXTS[:4]), jnp.uint8),
    jnp.asarray(np.stack(day, 1).ravel(), jnp.uint8),
  )


class Half(NamedTuple):
  """Half a day of fear; compare `contacts.Half`.

  Attributes:
    group: household or day group of each agent.
    there: `(agents, places, tables, row)` to bits of places where one is.
    words: `(there, fearful, stage)` to words given to the group.
    number: of these words.
    rates: `(sums of words, spots, places, tables, scale)` to `Rates`.
    inner: sets of the first two bits that occur.
  """

  group: Callable[[Agents], jax.Array]
  there: Callable[..., jax.Array]
  words: Callable[..., tuple[jax.Array, ...]]
  number: int
  rates: Callable[..., Rates]
  inner: tuple[int, ...]


def hazard(
  half: Half,
  rates: Rates,
  agents: Agents,
  there: UInt8[Array, " n"],
  fearful: Bool[Array, " n"],
  stage: UInt8[Array, " n"],
) -> UInt32[Array, " n"]:
  """Hazards that fear comes, or that it goes, in 2^-26 nats."""
  # An agent that is where it gives a one counts itself.
  own = jnp.where(fearful, _recovered(stage), stage == Stage.IS)
  state = 2 * fearful.astype(jnp.int32) + own
  inner, outer = (there & 3).astype(jnp.int32), (there >> 2).astype(jnp.int32)
  if len(half.inner) == 2:
    inner = inner >> 1
  group = half.group(agents)
  place = (state * len(half.inner) + inner) * len(rates.spots) + group
  spots = len(rates.around) // 16
  spot = (state * 4 + outer) * spots + groups.get(rates.spots, group)
  return groups.together(
    groups.get(rates.groups[0], place), groups.get(rates.around, spot)
  )


def _night_there(
  agents: Agents, places: Places, tables: Tables, row: UInt8[Array, " n"]
) -> jax.Array:
  del agents, places
  return groups.get(tables.night, row)


def _day_there(
  agents: Agents, places: Places, tables: Tables, row: UInt8[Array, " n"]
) -> jax.Array:
  code = 2 * row.astype(jnp.int32) + contacts.at_work(agents, places)
  return groups.get(tables.day, code)


def _night_words(
  there: UInt8[Array, " n"],
  fearful: Bool[Array, " n"],
  stage: UInt8[Array, " n"],
) -> tuple[jax.Array, ...]:
  one, there = _one(fearful, stage, _NARROW), there.astype(jnp.uint32)
  first, second = there & 3, there >> 2
  spread = lambda bits: (bits & 1) | bits >> 1 << 3 * _NARROW
  return one * spread(first), one * spread(second)


def _day_words(
  there: UInt8[Array, " n"],
  fearful: Bool[Array, " n"],
  stage: UInt8[Array, " n"],
) -> tuple[jax.Array, ...]:
  one, there = _one(fearful, stage, _WIDE), there.astype(jnp.uint32)
  return tuple(one * (there >> bit & 1) for bit in range(4))


def _night_rates(
  sums: tuple[jax.Array, ...],
  spots: jax.Array,
  places: Places,
  tables: Tables,
  scale: Float32[Array, "counties contexts"],
) -> Rates:
  inner, outer = sums
  shift = 3 * _NARROW
  clusters = len(places.neighbourhood)
  other = _widen(inner >> shift)
  other = groups.add(other, places.cluster, clusters)[places.cluster] - other
  near, far = (
    _counts(groups.add(_widen(word), places.cluster, clusters), _WIDE)
    for word in (outer, outer >> shift)
  )
  county = places.county[spots]
  home, cluster = (
    _rates(tables, scale, name, county) for name in ("household", "cluster")
  )
  table = _table(
    (_counts(inner, _NARROW), home), (_counts(other, _WIDE), cluster), (1, 3)
  )
  around = _around(near, far, places.neighbourhood, places, tables, scale, "")
  return Rates((table,), spots, around)


def _day_rates(
  sums: tuple[jax.Array, ...],
  spots: jax.Array,
  places: Places,
  tables: Tables,
  scale: Float32[Array, "counties contexts"],
) -> Rates:
  own, mixing, near, far = (_counts(word, _WIDE) for word in sums)
  number = len(places.kind)
  others = tuple(
    groups.add(count, places.school, number)[places.school] - count
    for count in mixing
  )
  county = places.county[spots]
  work, classes, school = (
    _rates(tables, scale, name, county) for name in ("work", "class", "school")
  )
  working = places.kind == people.Kind.WORK
  at_school = places.kind >= people.Kind.PRESCHOOL
  met = tuple(
    jnp.where(working, first, jnp.where(at_school, second, 0))
    for first, second in zip(work, classes, strict=True)
  )
  mixed = tuple(jnp.where(at_school, rate, 0) for rate in school)
  table = _table((own, met), (others, mixed), (0, 1, 2, 3))
  around = _around(near, far, spots, places, tables, scale, "day_")
  return Rates((table,), spots, around)


NIGHT = Half(
  contacts.NIGHT.group, _night_there, _night_words, 2, _night_rates, (1, 3)
)
DAY = Half(
  contacts.DAY.group, _day_there, _day_words, 4, _day_rates, (0, 1, 2, 3)
)


def _one(
  fearful: Bool[Array, " n"], stage: UInt8[Array, " n"], bits: int
) -> jax.Array:
  """A one for each of F, S and R that an agent is."""
  marks = (fearful, stage == Stage.IS, _recovered(stage))
  return sum(
    (mark.astype(jnp.uint32) << bits * at for at, mark in enumerate(marks)),
    jnp.uint32(0),
  )


def _recovered(stage: UInt8[Array, " n"]) -> jax.Array:
  return (stage == Stage.RS) | (stage == Stage.RA)


def _counts(word: UInt32[Array, " g"], bits: int) -> tuple[jax.Array, ...]:
  """The three counts in a word."""
  mask = np.uint32((1 << bits) - 1)
  return tuple(word >> bits * at & mask for at in range(3))


def _widen(word: UInt32[Array, " g"]) -> jax.Array:
  """Moves three narrow counts to wide ones."""
  first, second, third = _counts(word, _NARROW)
  return first | second << _WIDE | third << 2 * _WIDE


def _rates(
  tables: Tables, scale: jax.Array, context: str, county: jax.Array
) -> tuple[jax.Array, ...]:
  """Rates of F, S and R of a context where groups are."""
  at = CONTEXTS.index(context)
  factor = groups.scale_of(scale, context, county)
  return tuple(factor * tables.rates[kind, at] for kind in range(3))


def _table(
  inner: tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]],
  outer: tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]],
  sets: tuple[int, ...],
) -> jax.Array:
  """Hazards by (fearful, counts itself inside, where it is), then by group.

  Nobody is in the outer place's counts of the own group.

  Args:
    inner: counts of F, S and R, and their rates.
    outer: likewise.
    sets: of places where one is; bit 0 is the inner one.
  """

  def felt(part, fearful, own):
    (f, s, r), (of_f, of_s, of_r) = part
    term = lambda count, rate: groups.whole(count.astype(jnp.float32) * rate)
    if fearful:
      return term(r - own, of_r)
    return groups.together(term(f, of_f), term(s - own, of_s))

  rows = []
  for fearful in (0, 1):
    beyond = felt(outer, fearful, np.uint32(0))
    for own in (0, 1):
      within = felt(inner, fearful, np.uint32(own))
      choices = (
        jnp.zeros_like(within),
        within,
        beyond,
        groups.together(within, beyond),
      )
      rows += [choices[at] for at in sets]
  return jnp.concatenate(rows)


def _around(
  near: tuple[jax.Array, ...],
  far: tuple[jax.Array, ...],
  where: jax.Array,
  places: Places,
  tables: Tables,
  scale: jax.Array,
  prefix: str,
) -> jax.Array:
  """The table of neighbourhoods, from counts of clusters or day groups."""
  spots = len(places.community)  # and no more communities than that
  inside = tuple(groups.add(count, where, spots) for count in near)
  beyond = []
  for count in far:
    own = groups.add(count, where, spots)
    total = groups.add(own, places.community, spots)[places.community]
    beyond.append(total - own)
  rates = [
    _rates(tables, scale, prefix + name, places.county)
    for name in ("neighbourhood", "community")
  ]
  return _table((inside, rates[0]), (tuple(beyond), rates[1]), (0, 1, 2, 3))
