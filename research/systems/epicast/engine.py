"""Runs an epidemic: days of two fused half-steps in one compiled loop."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt32

from research.systems.epicast import contacts, disease, draws, policies
from research.systems.epicast.population import people

_NOBODY = np.uint32(0xFFFFFFFF)  # identity of agents that fill arrays up


class World(NamedTuple):
  """What a run reads: arguments of the compiled loop, never constants.

  Attributes:
    agents: who they are.
    places: their groups.
    tables: the scenario's parameters.
    policies: what is in force on each day.
  """

  agents: contacts.Agents
  places: contacts.Places
  tables: contacts.Tables
  policies: policies.Policies


class State(NamedTuple):
  """What a run changes: 4 bytes an agent.

  Attributes:
    day: that comes next.
    key: of draws of infection.
    stage: a `disease.Stage`, `[n]`.
    timer: half-days left in it, `[n]`.
    course: how an infection goes, packed, `[n]`.
  """

  day: jax.Array
  key: jax.Array
  stage: jax.Array
  timer: jax.Array
  course: jax.Array


def load(
  population: people.Population,
  tables: contacts.Tables,
  rules: policies.Policies,
  *,
  multiple: int = 1,
) -> World:
  """Puts a population and a scenario on the device.

  Args:
    population: who there is.
    tables: of `contacts.compile_tables`.
    rules: of `policies.compile_changes`.
    multiple: agents that do nothing are added up to a multiple of this.

  Returns:
    What `start` and `run` need.
  """
  filled = -len(population) % multiple

  def fill(array, value=0):
    return jnp.asarray(np.pad(array, (0, filled), constant_values=value))

  identity = np.arange(len(population), dtype=np.uint32)
  return World(
    agents=contacts.Agents(
      identity=fill(identity, _NOBODY),
      household=fill(population.household),
      group=fill(population.group),
      age=fill(population.age),
    ),
    places=contacts.Places(
      cluster=jnp.asarray(population.cluster),
      neighbourhood=jnp.asarray(population.neighbourhood),
      community=jnp.asarray(population.community),
      county=jnp.asarray(population.county[population.community]),
      kind=jnp.asarray(population.kind, jnp.int32),
      school=jnp.asarray(population.school),
      place=jnp.asarray(population.place),
    ),
    tables=tables,
    policies=rules,
  )


def start(
  world: World,
  history: disease.Disease,
  index_cases: np.ndarray,
  *,
  seed: int,
  replicate: int = 0,
) -> State:
  """Returns the state before the first day.

  Args:
    world: of `load`.
    history: natural history, from which courses are drawn.
    index_cases: identities of agents that start in E.
    seed: of the experiment.
    replicate: which run of the experiment.
  """
  agents = world.agents
  course = disease.draw_courses(
    history, draws.key(seed, "course", replicate), agents.identity, agents.age
  )
  stage = jnp.where(
    agents.identity == _NOBODY, disease.Stage.ABSENT, disease.Stage.S
  ).astype(jnp.uint8)
  # On the host: on the device every agent would meet every index case.
  cases = jnp.asarray(np.isin(np.asarray(agents.identity), index_cases))
  stage, timer = disease.infect(stage, jnp.zeros_like(stage), course, cases)
  key = jnp.asarray(draws.key(seed, "infection", replicate))
  return State(jnp.int32(0), key, stage, timer, course)


@functools.partial(jax.jit, static_argnames="days")
def run(
  world: World, state: State, *, days: int
) -> tuple[State, Int32[Array, "days counties stages"]]:
  """Simulates some days.

  Runs of 3 and 4 days one after the other end in the state of one of 7.

  Args:
    world: of `load`.
    state: of `start`, or of another run.
    days: how many.

  Returns:
    The state, and at the end of each day the residents of each county in each
    `disease.Stage`.
  """
  places = world.places
  homes = places.county[places.neighbourhood[places.cluster]]
  return jax.lax.scan(
    lambda state, _: _day(world, homes, state), state, length=days
  )


def _day(
  world: World, homes: Int32[Array, " households"], state: State
) -> tuple[State, Int32[Array, "counties stages"]]:
  agents, rules = world.agents, world.policies
  today = jnp.full_like(agents.identity, state.day.astype(jnp.uint32))
  words = draws.words(state.key, agents.identity, today)
  row = jnp.searchsorted(rules.since, state.day, side="right") - 1
  for hazards, bits in zip((contacts.day, contacts.night), words, strict=True):
    state = _half(world, rules.scale[row], hazards, bits, state)
  counties, stages = rules.scale.shape[1], len(disease.Stage)
  where = homes.at[agents.household].get(mode="promise_in_bounds")
  counts = jnp.zeros(counties * stages, jnp.int32)
  counts = counts.at[where * stages + state.stage].add(
    1, mode="promise_in_bounds"
  )
  state = state._replace(day=state.day + 1)
  return state, counts.reshape(counties, stages)


def _half(
  world: World, scale: Array, hazards, bits: UInt32[Array, " n"], state: State
) -> State:
  """Half a day: stages go on, contacts happen, infections begin."""
  stage, timer = disease.progress(
    state.stage, state.timer, state.course, world.tables.presymptomatic_days
  )
  behaviour = disease.withdrawn(stage, timer, state.course).astype(jnp.uint8)
  hazard = hazards(
    world.agents, world.places, world.tables, scale, stage, behaviour
  )
  caught = bits < contacts.chance(hazard)
  stage, timer = disease.infect(stage, timer, state.course, caught)
  return state._replace(stage=stage, timer=timer)
