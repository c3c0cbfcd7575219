"""Trajectories do not depend on how agents are stored."""

import dataclasses

import jax
import numpy as np
import pytest

from research.systems.epicast import engine, policies
from tests.systems.epicast import cases

DAYS = 30


@pytest.fixture(scope="module")
def plain():
  """World, state after a run, and its counts."""
  world = cases.world()
  return (world, *engine.run(world, cases.start(world), days=DAYS))


def test_everybody_is_somewhere_every_day(plain):
  world, state, counts = plain
  people = cases.population()
  home = people.county[people.home_community]
  residents = np.bincount(home)
  np.testing.assert_array_equal(
    np.asarray(counts).sum(2), np.tile(residents, (DAYS, 1))
  )
  susceptible = np.asarray(counts)[:, :, 0]
  assert (np.diff(susceptible, axis=0) <= 0).all()
  assert (np.diff(susceptible.sum(1)) < 0).sum() > 10
  last = np.bincount(state.stage, minlength=8)
  np.testing.assert_array_equal(counts[-1].sum(0), last)


def test_a_run_stops_and_restarts_after_any_day(plain):
  world, whole, counts = plain
  state, parts = cases.start(world), []
  for _ in range(DAYS):
    state, some = engine.run(world, state, days=1)
    parts.append(some)
  jax.tree.map(np.testing.assert_array_equal, state, whole)
  np.testing.assert_array_equal(np.concatenate(parts), counts)


def test_replicates_and_seeds_differ(plain):
  world, state, _ = plain
  index_cases = np.arange(0, 400, 40)
  for seed, replicate in ((0, 1), (1, 0)):
    first = engine.start(
      world, cases.HISTORY, index_cases, seed=seed, replicate=replicate
    )
    other, _ = engine.run(world, first, days=DAYS)
    assert (np.asarray(other.stage) != state.stage).mean() > 0.05


def test_a_policy_changes_nothing_before_it_begins(plain):
  _, _, counts = plain
  rule = policies.Change(day=11, context="social", scale=0, fips=(2,))
  world = cases.world(changes=[rule])
  _, found = engine.run(world, cases.start(world), days=DAYS)
  np.testing.assert_array_equal(found[:11], counts[:11])
  assert found[-1, 1, 0] > counts[-1, 1, 0]


def test_trap_02_sums_are_of_whole_numbers_and_have_no_order(plain):
  world, _, _ = plain
  text = str(
    jax.make_jaxpr(lambda w, s: engine.run(w, s, days=1))(
      world, cases.start(world)
    )
  )
  sums = [line for line in text.splitlines() if "scatter-add" in line]
  assert len(sums) > 10
  assert not any(":f32" in line.split("=")[0] for line in sums)
  assert "reduce_sum" not in text


def test_trap_03_storage_order_changes_nothing(plain):
  world, want, counts = plain
  order = np.random.default_rng(0).permutation(len(cases.population()))
  shuffled = world._replace(
    agents=jax.tree.map(lambda array: array[order], world.agents)
  )
  index_cases = np.arange(0, len(order), 40)
  state, found = engine.run(
    shuffled, cases.start(shuffled, index_cases=index_cases), days=DAYS
  )
  np.testing.assert_array_equal(found, counts)
  for name in ("stage", "timer", "course"):
    np.testing.assert_array_equal(
      getattr(state, name), np.asarray(getattr(want, name))[order]
    )


def test_trap_03_padding_changes_nothing(plain):
  _, want, counts = plain
  padded = cases.world(multiple=512)
  index_cases = np.arange(0, 400, 40)
  state, found = engine.run(
    padded, cases.start(padded, index_cases=index_cases), days=DAYS
  )
  assert len(state.stage) == 512
  np.testing.assert_array_equal(state.stage[:400], want.stage)
  np.testing.assert_array_equal(found[:, :, :7], counts[:, :, :7])
  assert (found[:, 0, 7] == 112).all()


def test_trap_03_an_isolated_agent_changes_nobody(plain):
  """One more person in a household, cluster, ... and day group of its own."""
  _, want, _ = plain
  people = cases.population()
  add = lambda array, value: np.append(array, array.dtype.type(value))
  more = dataclasses.replace(
    people,
    household=add(people.household, len(people.cluster)),
    group=add(people.group, len(people.kind)),
    age=add(people.age, 3),
    quarters=add(people.quarters, False),
    cluster=add(people.cluster, len(people.neighbourhood)),
    neighbourhood=add(people.neighbourhood, len(people.community)),
    community=add(people.community, len(people.county)),
    county=add(people.county, 0),
    tract=add(people.tract, 0),
    kind=add(people.kind, 0),
    school=add(people.school, people.schools),
    place=add(people.place, len(people.community)),
  )
  world = cases.world(people=more)
  index_cases = np.append(np.arange(0, 400, 40), 400)
  state, _ = engine.run(
    world, cases.start(world, index_cases=index_cases), days=DAYS
  )
  np.testing.assert_array_equal(state.stage[:400], want.stage)
  assert state.stage[400] > 0
