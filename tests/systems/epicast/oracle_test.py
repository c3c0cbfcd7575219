"""The simulator beside the oracle that knows nothing of its tricks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.systems.epicast import (
  contacts,
  disease,
  engine,
  groups,
  policies,
)
from research.systems.epicast.fear import Fear
from tests.systems.epicast import cases, oracle

CHANGES = (
  policies.Change(day=4, context="work", scale=0.5, fips=(1,)),
  policies.Shelter(day=6, compliance=0.2, fips=(2,)),
  policies.Change(day=9, context="schools", scale=0.0, fips=(2,)),
  policies.Change(day=9, context="household", scale=1.5),
  policies.Shelter(day=12, compliance=0.4),
  policies.Change(day=15, context="social", scale=0.25, fips=(1, 2)),
  policies.Shelter(day=16, compliance=0),
  policies.Change(day=20, context="schools", scale=1.0),
)
DAYS = 30


@pytest.mark.parametrize(
  ("fear", "changes"),
  [(None, ()), (cases.FEAR, CHANGES)],
  ids=["disease alone", "fear and policies"],
)
def test_trap_01_all_infection_and_fear_is_that_of_pairs(fear, changes):
  people = cases.population()
  world = cases.world(changes=changes, fear=fear)
  rules = policies.compile_changes(changes, people.fips)
  since, scales = np.asarray(rules.since), np.asarray(rules.scale)
  orders = np.zeros((len(since), len(people.fips)))
  if rules.orders is not None:
    orders = np.asarray(rules.orders) / 256
  row = lambda day: np.searchsorted(since, day, side="right") - 1
  truth = oracle.Oracle(
    people,
    cases.HISTORY,
    cases.STRONG,
    np.arange(0, len(people), 40),
    scale=lambda day: scales[row(day)],
    orders=lambda day: orders[row(day)],
    fear=fear or Fear(),
  )
  state, ever = cases.start(world, fear=fear), truth.fearful
  for day in range(DAYS):
    truth.day(day)
    state, daily = engine.run(world, state, days=1)
    np.testing.assert_array_equal(state.stage, truth.stage)
    np.testing.assert_array_equal(cases.fearful(state), truth.fearful)
    np.testing.assert_array_equal(daily.infections[0], truth.infections)
    np.testing.assert_array_equal(daily.symptomatic[0], truth.symptomatic)
    by_county = np.bincount(truth.home, truth.fearful, len(people.fips))
    np.testing.assert_array_equal(daily.fearful[0], by_county)
    ever = ever | truth.fearful
  assert 0.2 < (truth.stage > 0).mean() < 0.95
  if fear:
    # Fear came to many, and left many; so both ways were looked at.
    assert ever.sum() > truth.fearful.sum() + 50 > 100


def test_hazards_are_those_of_pairs():
  """Near, not only on one side of what is drawn."""
  people, world = cases.population(), cases.world()
  truth = oracle.Oracle(
    people,
    cases.HISTORY,
    cases.STRONG,
    np.arange(0, len(people), 40),
    scale=lambda day: np.ones((2, len(disease.CONTEXTS))),
    orders=lambda day: np.zeros(2),
    fear=Fear(),
  )
  state = cases.start(world)
  for day in range(DAYS):
    truth.day(day)
    state, _ = engine.run(world, state, days=1)
    free = truth.stage == disease.Stage.S
    # Each of up to five terms is a rounded multiple of 2^-26.
    np.testing.assert_allclose(
      np.asarray(_night(world, state))[free] * 2.0**-26,
      truth.hazard[free],
      rtol=1e-6,
      atol=4e-8,
    )


@jax.jit
def _night(world, state):
  """Hazards of the night with which a day ended.

  Who caught it then infects nobody yet, so the stages will do as they are.
  """
  half, agents, places = contacts.NIGHT, world.agents, world.places
  why = disease.withdrawn(state.stage, state.timer, state.course)
  why = why.astype(jnp.uint8)
  words = half.words(agents, places, world.tables, state.stage, why)
  sums = tuple(
    groups.add(word, agents.household, len(places.cluster)) for word in words
  )
  rates = half.rates(sums, places, world.tables, world.policies.scale[0])
  return half.hazard(rates, agents, world.tables, why)


@pytest.mark.parametrize("context", disease.CONTEXTS)
def test_every_context_infects_somebody(context):
  """A context alone, all others closed; so none of them is empty here."""
  only = [
    policies.Change(day=0, context=name, scale=9.0 * (name == context))
    for name in disease.CONTEXTS
  ]
  world = cases.world(changes=only)
  _, daily = cases.run(world, cases.start(world), DAYS)
  assert daily.infections.sum() > 0
