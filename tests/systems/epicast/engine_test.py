"""Trajectories do not depend on how agents are stored."""

import dataclasses

import jax
import numpy as np
import pytest

from research.systems.epicast import engine, policies
from tests.systems.epicast import cases

DAYS = 30
ORDERS = (policies.Shelter(day=3, compliance=0.2),)


@pytest.fixture(scope="module")
def plain():
  """World, state after a run, and its days, with all kinds of fear."""
  world = cases.world(changes=ORDERS, fear=cases.FEAR)
  state = cases.start(world, fear=cases.FEAR)
  return (world, *cases.run(world, state, DAYS))


def _per_agent(state):
  arrays = {name: getattr(state, name) for name in ("stage", "timer", "course")}
  arrays |= {"obeys": state.obeys, "mind": state.minds.mind}
  arrays |= {"media": state.minds.media}
  return {name: np.asarray(array) for name, array in arrays.items()}


def test_everybody_is_somewhere_every_day(plain):
  world, state, daily = plain
  people = cases.population()
  home = people.county[people.home_community]
  residents = np.bincount(home)
  stages = np.asarray(daily.stages)
  np.testing.assert_array_equal(stages.sum(2), np.tile(residents, (DAYS, 1)))
  susceptible = stages[:, :, 0]
  assert (np.diff(susceptible, axis=0) <= 0).all()
  assert (np.diff(susceptible.sum(1)) < 0).sum() > 10
  last = np.bincount(state.stage, minlength=8)
  np.testing.assert_array_equal(stages[-1].sum(0), last)
  fearful = np.bincount(home, cases.fearful(state))
  np.testing.assert_array_equal(daily.fearful[-1], fearful)
  new = np.asarray(daily.infections).sum(0)
  first = np.bincount(home[::40], minlength=2)
  np.testing.assert_array_equal(new + first, residents - susceptible[-1])


def test_a_run_stops_and_restarts_after_any_day():
  fear = dataclasses.replace(cases.FEAR, phi_ff=0, phi_sf=0, gamma_r=0)
  world = cases.world(changes=ORDERS, fear=fear)
  first = cases.start(world, fear=fear)
  state, daily = engine.run(world, first, days=12)
  assert daily.fearful.sum() > 100
  jax.tree.map(
    np.testing.assert_array_equal, cases.run(world, first, 12), (state, daily)
  )


def test_replicates_and_seeds_differ(plain):
  world, state, _ = plain
  index_cases = np.arange(0, 400, 40)
  for seed, replicate in ((0, 1), (1, 0)):
    first = engine.start(
      world,
      cases.HISTORY,
      index_cases,
      cases.FEAR,
      seed=seed,
      replicate=replicate,
    )
    other, _ = cases.run(world, first, DAYS)
    assert (np.asarray(other.stage) != state.stage).mean() > 0.05
    assert (cases.fearful(other) != cases.fearful(state)).mean() > 0.05
    for name in ("obeys", "media"):
      found, drawn = _per_agent(state)[name], _per_agent(other)[name]
      assert (found != drawn).mean() > 0.5


def test_a_policy_changes_nothing_before_it_begins(plain):
  _, _, daily = plain
  rule = policies.Change(day=11, context="social", scale=0, fips=(2,))
  world = cases.world(changes=[*ORDERS, rule], fear=cases.FEAR)
  state = cases.start(world, fear=cases.FEAR)
  _, found = cases.run(world, state, DAYS)
  np.testing.assert_array_equal(found.stages[:11], daily.stages[:11])
  assert (np.asarray(found.stages[11:]) != daily.stages[11:]).any()


def test_trap_02_sums_are_of_whole_numbers_and_have_no_order(plain):
  world, _, _ = plain
  state = cases.start(world, fear=cases.FEAR)
  text = str(
    jax.make_jaxpr(lambda w, s: engine.run(w, s, days=1))(world, state)
  )
  lines = text.splitlines()
  sums = [line for line in lines if "scatter-add" in line]
  sums += [line for line in lines if "reduce_sum" in line]
  assert len(sums) > 20
  assert not any(":f32" in line.split("=")[0] for line in sums)
  assert "dot_general" not in text
  assert "cumsum" not in text


def test_trap_03_storage_order_changes_nothing(plain):
  world, want, daily = plain
  order = np.random.default_rng(0).permutation(len(cases.population()))
  shuffled = world._replace(
    agents=jax.tree.map(lambda array: array[order], world.agents)
  )
  state, found = cases.run(
    shuffled,
    cases.start(
      shuffled, fear=cases.FEAR, index_cases=np.arange(0, len(order), 40)
    ),
    days=DAYS,
  )
  jax.tree.map(np.testing.assert_array_equal, found, daily)
  for name, array in _per_agent(state).items():
    np.testing.assert_array_equal(array, _per_agent(want)[name][order])


def test_trap_03_an_isolated_agent_padding_and_blocks_change_nobody(
  monkeypatch,
):
  """One more person, in a household, cluster, ... and day group of its own.

  And the world comes in four blocks, the last one in part of agents that fill
  it up.
  """
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
  # A broadcaster's share is of one person more: only silent ones change nobody.
  fear = dataclasses.replace(cases.FEAR, broadcasters=cases.SILENT)
  index_cases = np.append(np.arange(0, 400, 40), 400)
  world = cases.world(changes=ORDERS, fear=fear)
  first = cases.start(world, fear=fear, index_cases=index_cases[:-1])
  want, daily = cases.run(world, first, DAYS)
  monkeypatch.setattr(engine, "_BLOCK", 128)
  world = cases.world(changes=ORDERS, fear=fear, people=more, multiple=3)
  first = cases.start(world, fear=fear, index_cases=index_cases)
  state, found = cases.run(world, first, DAYS)
  assert len(state.stage) == 408
  for name in ("stage", "timer", "mind"):
    part = _per_agent(state)[name][:400]
    np.testing.assert_array_equal(part, _per_agent(want)[name])
  assert state.stage[400] > 0
  assert not cases.fearful(state)[401:].any()
  np.testing.assert_array_equal(found.infections, daily.infections)
  assert (np.asarray(found.stages)[:, 0, 7] == 7).all()
