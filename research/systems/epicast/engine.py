"""Runs an epidemic: days of two half-steps in one compiled loop.

In each half-step agents go twice through blocks: first they give words to their
groups, then they look hazards up, draw, and change. Temporary arrays are as
long as a block, or as the groups.
"""

import datetime
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt8, UInt32

from research.runs import errors
from research.systems.epicast import (
  behaviours,
  contacts,
  disease,
  draws,
  frights,
  groups,
  minds,
  policies,
)
from research.systems.epicast.disease import Stage
from research.systems.epicast.fear import Fear
from research.systems.epicast.population import people

_NOBODY = np.uint32(0xFFFFFFFF)  # identity of agents that fill arrays up
_BLOCK = 1 << 16  # agents

#: Adds counts of some agents, arrays by group, up with those of all others.
Everywhere = Callable[[tuple[jax.Array, ...]], tuple[jax.Array, ...]]

_HALVES = ((contacts.DAY, frights.DAY), (contacts.NIGHT, frights.NIGHT))


class World(NamedTuple):
  """What a run reads: arguments of the compiled loop, never constants.

  Attributes:
    agents: who they are.
    places: their groups.
    homes: county of each household.
    tables: the disease.
    policies: what is in force on each day.
    fear: nothing if there is none.
  """

  agents: contacts.Agents
  places: contacts.Places
  homes: jax.Array
  tables: contacts.Tables
  policies: policies.Policies
  fear: minds.Tables | None


class State(NamedTuple):
  """What a run changes: 4 bytes an agent, up to 7 with all kinds of reasons.

  Attributes:
    day: that comes next.
    key: of draws of infection.
    stage: a `disease.Stage`, `[n]`.
    timer: half-days left in it, `[n]`.
    course: how an infection goes, packed, `[n]`.
    obeys: stays at home if the share of residents who do, in 1/256, is above
      this, `[n]`; nothing if there are no orders.
    minds: of fear; nothing if there is none.
    tally: residents by county and stage.
  """

  day: jax.Array
  key: jax.Array
  stage: jax.Array
  timer: jax.Array
  course: jax.Array
  obeys: jax.Array | None
  minds: minds.Minds | None
  tally: jax.Array


class Daily(NamedTuple):
  """What is known of each day, by county of residence.

  Attributes:
    stages: residents in each `disease.Stage` at its end, `[days, counties, 8]`.
    fearful: residents who are then fearful, `[days, counties]`.
    infections: who was infected that day, `[days, counties]`.
    symptomatic: who got symptoms that day, `[days, counties]`.
  """

  stages: jax.Array
  fearful: jax.Array
  infections: jax.Array
  symptomatic: jax.Array


def load(
  population: people.Population,
  history: disease.Disease,
  contact: disease.Contacts,
  changes: Sequence[policies.Change | policies.Shelter] = (),
  fear: Fear | None = None,
  *,
  start_date: datetime.date | None = None,
  multiple: int = 1,
) -> World:
  """Compiles a scenario and puts it with a population on the device.

  Args:
    population: who there is.
    history: the course of an infection.
    contact: how contacts pass it on.
    changes: policies.
    fear: nothing if there is none.
    start_date: date of day 0, for changes with dates.
    multiple: number of devices; agents that do nothing are added until each
      of them has as many, in whole blocks.

  Returns:
    What `start` and `run` need.

  Raises:
    UserError: something in the scenario is wrong.
  """
  rules = policies.compile_changes(changes, population.fips, start_date)
  table = behaviours.tabulate(
    fear.behaviours if fear else (), orders=rules.orders is not None
  )
  county = population.county[population.community].astype(np.int32)
  spots = population.neighbourhood[population.cluster]
  home = population.county[population.home_community]
  residents = np.bincount(home, minlength=len(population.fips))
  return World(
    agents=_agents(population, multiple),
    places=contacts.Places(
      cluster=jnp.asarray(population.cluster),
      neighbourhood=jnp.asarray(population.neighbourhood),
      community=jnp.asarray(population.community),
      county=jnp.asarray(county),
      kind=jnp.asarray(population.kind, jnp.int32),
      school=jnp.asarray(population.school),
      place=jnp.asarray(population.place),
    ),
    homes=jnp.asarray(county[spots]),
    tables=contacts.compile_tables(history, contact, table),
    policies=rules,
    fear=minds.compile_tables(fear, table, population.fips, residents)
    if fear
    else None,
  )


def padded(agents: int, devices: int) -> int:
  """How many agents arrays have: whole blocks on each device.

  Args:
    agents: people.
    devices: over which they are spread.

  Example:
    >>> padded(1001, 4)
    1004
  """
  size = agents + -agents % devices
  # Blocks are of one size, on one device and on each of many.
  while any(part % _number(part) for part in (size, size // devices)):
    size += devices
  return size


def _agents(population: people.Population, multiple: int) -> contacts.Agents:
  size = padded(len(population), multiple)

  def fill(array, value=0):
    filled = (0, size - len(population))
    return jnp.asarray(np.pad(array, filled, constant_values=value))

  return contacts.Agents(
    identity=fill(np.arange(len(population), dtype=np.uint32), _NOBODY),
    household=fill(population.household),
    group=fill(population.group),
    age=fill(population.age),
  )


def start(
  world: World,
  history: disease.Disease,
  index_cases: np.ndarray,
  fear: Fear | None = None,
  *,
  seed: int,
  replicate: int = 0,
) -> State:
  """Returns the state before the first day.

  Args:
    world: of `load`.
    history: natural history, from which courses are drawn.
    index_cases: identities of agents that start in E.
    fear: as given to `load`.
    seed: of the experiment.
    replicate: which run of the experiment.
  """
  if (world.fear is None) != (fear is None):
    raise errors.UserError(
      "got fear for only one of load and start; expected the same for both"
    )
  size = len(world.agents.age) // _number(len(world.agents.age))
  blocks = [
    _first(
      world, slice(at, at + size), history, index_cases, fear, seed, replicate
    )
    for at in range(0, len(world.agents.age), size)
  ]
  stage, timer, course, obeys, mind, media = jax.tree.map(
    lambda *parts: jnp.concatenate(parts), *blocks
  )
  carried = None
  if world.fear is not None:
    key = jnp.asarray(draws.key(seed, "fear", replicate))
    logs = minds.first_logs(world.fear)
    carried = minds.Minds(key, mind, media, logs)
  state = State(
    day=jnp.int32(0),
    key=jnp.asarray(draws.key(seed, "infection", replicate)),
    stage=stage,
    timer=timer,
    course=course,
    obeys=obeys,
    minds=carried,
    tally=jnp.zeros(0, jnp.int32),
  )
  tally, _ = _first_tally(world, state)
  return state._replace(tally=tally)


@jax.jit
def _first_tally(world: World, state: State) -> tuple[jax.Array, jax.Array]:
  return _tally(world, state, lambda counts: counts)


def _first(
  world: World,
  block: slice,
  history: disease.Disease,
  index_cases: np.ndarray,
  fear: Fear | None,
  seed: int,
  replicate: int,
) -> tuple[jax.Array | None, ...]:
  """Stage, timer, course, obeys, mind and media of a block before day 0."""
  agents = jax.tree.map(lambda array: array[block], world.agents)
  course = disease.draw_courses(
    history, draws.key(seed, "course", replicate), agents.identity, agents.age
  )
  present = agents.identity != _NOBODY
  stage = jnp.where(present, Stage.S, Stage.ABSENT).astype(jnp.uint8)
  # On the host: on the device every agent would meet every index case.
  cases = jnp.asarray(np.isin(np.asarray(agents.identity), index_cases))
  stage, timer = disease.infect(stage, jnp.zeros_like(stage), course, cases)
  obeys, mind, media = None, None, None
  if world.policies.orders is not None:
    key = jnp.asarray(draws.key(seed, "orders", replicate))
    bits, _ = draws.words(key, agents.identity, jnp.zeros_like(agents.identity))
    obeys = (bits >> 24).astype(jnp.uint8)
  if fear is not None:
    mind, media = minds.draw(
      fear, agents.identity, present, seed=seed, replicate=replicate
    )
  return stage, timer, course, obeys, mind, media


@functools.partial(jax.jit, static_argnames="days")
def run(world: World, state: State, *, days: int) -> tuple[State, Daily]:
  """Simulates some days.

  Runs of 3 and 4 days one after the other end in the state of one of 7.

  Args:
    world: of `load`.
    state: of `start`, or of another run.
    days: how many.

  Returns:
    The state, and what is known of each day.
  """
  return simulate(world, state, days, lambda counts: counts)


def simulate(
  world: World, state: State, days: int, everywhere: Everywhere
) -> tuple[State, Daily]:
  """Simulates some days, within a program.

  Args:
    world: of `load`, of which agents may be a part.
    state: of those agents.
    days: how many.
    everywhere: adds counts of these agents up with those of all others.
  """
  return jax.lax.scan(
    lambda state, _: _day(world, state, everywhere), state, length=days
  )


def _day(
  world: World, state: State, everywhere: Everywhere
) -> tuple[State, Daily]:
  rules, said = world.policies, None
  if world.fear is not None and state.minds is not None:
    said, logs = minds.heard(world.fear, state.minds.logs, rules.scale.shape[1])
    state = state._replace(minds=state.minds._replace(logs=logs))
  row = jnp.searchsorted(rules.since, state.day, side="right") - 1
  state, drawn = half_day(world, row, 0, said, state, None, everywhere)
  state, _ = half_day(world, row, 1, said, state, drawn, everywhere)
  tally, fearful = _tally(world, state, everywhere)
  # Nobody returns to S or leaves Rs, so flows are differences of counts.
  ill = lambda counts: counts[:, Stage.IS] + counts[:, Stage.RS]
  daily = Daily(
    stages=tally,
    fearful=fearful,
    infections=state.tally[:, Stage.S] - tally[:, Stage.S],
    symptomatic=ill(tally) - ill(state.tally),
  )
  if world.fear is not None and state.minds is not None:
    logs = minds.listen(
      world.fear, state.minds.logs, tally[:, Stage.IS], daily.symptomatic
    )
    state = state._replace(minds=state.minds._replace(logs=logs))
  return state._replace(day=state.day + 1, tally=tally), daily


class _Crowd(NamedTuple):
  """What of agents half a day looks at; a block of it, inside the loops."""

  agents: contacts.Agents
  stage: jax.Array
  timer: jax.Array
  course: jax.Array
  obeys: jax.Array | None
  mind: jax.Array | None
  media: jax.Array | None
  drawn: tuple[jax.Array, ...] | None


def _blocks(
  world: World, state: State, drawn: tuple[jax.Array, ...] | None = None
) -> _Crowd:
  """All agents, by block."""
  mind, media = None, None
  if state.minds is not None:
    mind, media = state.minds.mind, state.minds.media
  crowd = _Crowd(
    world.agents,
    state.stage,
    state.timer,
    state.course,
    state.obeys,
    mind,
    media,
    drawn,
  )
  number = _number(len(state.stage))
  return jax.tree.map(lambda array: array.reshape(number, -1), crowd)


def _number(agents: int) -> int:
  """How many blocks there are."""
  return -(-agents // _BLOCK)


def half_day(
  world: World,
  row: Int32[Array, ""],
  half: int,
  said: UInt32[Array, " counties"] | None,
  state: State,
  drawn: tuple[jax.Array, ...] | None,
  everywhere: Everywhere,
) -> tuple[State, tuple[jax.Array, ...]]:
  """Half a day: stages go on, contacts happen, infections and fear begin.

  By day both halves' words are drawn; those of the night are given back.

  Args:
    world: that runs.
    row: of the policies in force.
    half: 0 by day, 1 by night.
    said: what broadcasters say, by county; none if there is no fear.
    state: when it begins.
    drawn: what the day gave back; none by day.
    everywhere: adds counts of these agents up with those of all others.

  Returns:
    The state at its end, and words for the night.
  """
  infection, fright = _HALVES[half]
  scale, places = world.policies.scale[row], world.places
  local = world.fear.local if world.fear is not None else None
  blocks = _blocks(world, state, drawn)

  def give(sums, block):
    stage, _, why = _progress(world, row, block)
    group = infection.group(block.agents)
    given = infection.words(block.agents, places, world.tables, stage, why)
    if local is not None:
      there = fright.there(block.agents, places, local, why)
      given += fright.words(there, minds.fearful(block.mind), stage)
    return tuple(
      total.at[group].add(word, mode="promise_in_bounds")
      for total, word in zip(sums, given, strict=True)
    ), None

  number, members = words(world)[half]
  sums = tuple(jnp.zeros(members, jnp.uint32) for _ in range(number))
  sums, _ = jax.lax.scan(give, sums, blocks)
  sums = everywhere(sums)
  rates = infection.rates(sums[:2], places, world.tables, scale)
  frights_of = None
  if local is not None:
    frights_of = fright.rates(sums[2:], rates.spots, places, local, scale)

  def take(_, block):
    stage, timer, why = _progress(world, row, block)
    hazard = infection.hazard(rates, block.agents, world.tables, why)
    now, later = block.drawn or _draw(state, block.agents), ()
    if half == 0:
      now, later = now[::2], now[1::2]
    caught = now[0] < groups.chance(hazard)
    mind = block.mind
    if world.fear is not None and state.minds is not None:
      felt = minds.hazard(
        world.fear, block.stage, stage, mind, _media(world, said, block)
      )
      if local is not None and frights_of is not None:
        there = fright.there(block.agents, places, local, why)
        afraid = minds.fearful(mind)
        felt = groups.together(
          felt,
          frights.hazard(
            fright, frights_of, block.agents, there, afraid, stage
          ),
        )
      mind = minds.flip(mind, stage, felt, now[1])
    stage, timer = disease.infect(stage, timer, block.course, caught)
    return None, (stage, timer, mind, later)

  _, changed = jax.lax.scan(take, None, blocks)
  stage, timer, mind, later = jax.tree.map(lambda array: array.ravel(), changed)
  if state.minds is not None:
    state = state._replace(minds=state.minds._replace(mind=mind))
  return state._replace(stage=stage, timer=timer), later


def _progress(
  world: World, row: Int32[Array, ""], block: _Crowd
) -> tuple[UInt8[Array, " n"], UInt8[Array, " n"], UInt8[Array, " n"]]:
  """Stages and timers after half a day, and reasons; see `behaviours`."""
  stage, timer = disease.progress(
    block.stage, block.timer, block.course, world.tables.presymptomatic_days
  )
  why = disease.withdrawn(stage, timer, block.course).astype(jnp.uint8)
  if block.mind is not None:
    why |= minds.reasons(block.mind)
  if world.policies.orders is not None and block.obeys is not None:
    orders = groups.get(world.policies.orders[row], _home(world, block))
    last = world.tables.group.shape[1] // 2
    why |= (block.obeys < orders).astype(jnp.uint8) * np.uint8(last)
  return stage, timer, why


def _home(world: World, block: _Crowd) -> Int32[Array, " n"]:
  """County of residence."""
  return groups.get(world.homes, block.agents.household)


def _draw(state: State, agents: contacts.Agents) -> tuple[jax.Array, ...]:
  """Words of infection by day and night, then those of fear."""
  today = jnp.full_like(agents.identity, state.day.astype(jnp.uint32))
  keys = (state.key,) if state.minds is None else (state.key, state.minds.key)
  return sum((draws.words(key, agents.identity, today) for key in keys), ())


def _media(
  world: World, said: UInt32[Array, " counties"] | None, block: _Crowd
) -> UInt32[Array, " n"] | None:
  """What each agent hears of broadcasters."""
  if block.media is None or said is None:
    return None
  mean = groups.get(said, _home(world, block)).astype(jnp.float32)
  return groups.whole(
    mean * (block.media.astype(jnp.float32) * np.float32(1 / disease.UNIT))
  )


def words(world: World) -> tuple[tuple[int, int], tuple[int, int]]:
  """How many words a group has by day and by night, and how many groups."""
  local = world.fear is not None and world.fear.local is not None
  sizes = len(world.places.kind), len(world.places.cluster)
  (_, day), (_, night) = _HALVES
  numbers = (2 + local * fright.number for fright in (day, night))
  by_day, by_night = zip(numbers, sizes, strict=True)
  return by_day, by_night


def _tally(
  world: World, state: State, everywhere: Everywhere
) -> tuple[Int32[Array, "counties stages"], Int32[Array, " counties"]]:
  """Residents by county and stage, and those who are fearful."""
  counties, stages = world.policies.scale.shape[1], len(Stage)

  def count(counts, block):
    code = _home(world, block) * stages + block.stage
    code = 2 * code
    if block.mind is not None:
      code += minds.fearful(block.mind)
    return counts.at[code].add(1, mode="promise_in_bounds"), None

  counts = jnp.zeros(counties * stages * 2, jnp.int32)
  counts, _ = jax.lax.scan(count, counts, _blocks(world, state))
  (counts,) = everywhere((counts,))
  counts = counts.reshape(counties, stages, 2)
  return counts.sum(2), counts[:, :, 1].sum(1)
