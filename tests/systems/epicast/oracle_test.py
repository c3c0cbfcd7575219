"""The simulator beside the oracle that knows nothing of its tricks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.systems.epicast import contacts, disease, engine, policies
from tests.systems.epicast import cases, oracle

CHANGES = (
  policies.Change(day=4, context="work", scale=0.5, fips=(1,)),
  policies.Change(day=9, context="schools", scale=0.0, fips=(2,)),
  policies.Change(day=9, context="household", scale=1.5),
  policies.Change(day=15, context="social", scale=0.25, fips=(1, 2)),
  policies.Change(day=20, context="schools", scale=1.0),
)


def _odd_behaviours():
  """Who withdraws still meets some, and takes less than it gives."""
  rng = np.random.default_rng(0)
  emits, receives = rng.integers(40, 65, (2, 2, len(disease.CONTEXTS)))
  return disease.Behaviours(("usual", "withdrawn"), emits, receives)


@pytest.mark.parametrize(
  ("behaviours", "changes"),
  [(disease.usual_and_withdrawn(), ()), (_odd_behaviours(), CHANGES)],
  ids=["usual", "odd behaviours and policies"],
)
def test_trap_01_every_infection_is_that_of_pairs(behaviours, changes):
  people = cases.population()
  world = cases.world(behaviours=behaviours, changes=changes)
  rules = policies.compile_changes(changes, people.fips)
  since, scales = (np.asarray(array) for array in rules)
  index_cases = np.arange(0, len(people), 40)

  def scale(day):
    return scales[np.searchsorted(since, day, side="right") - 1]

  truth = oracle.Oracle(
    people, cases.HISTORY, cases.STRONG, behaviours, scale, index_cases, 0
  )
  state = cases.start(world)
  for day in range(30):
    truth.day(day)
    state, _ = engine.run(world, state, days=1)
    np.testing.assert_array_equal(state.stage, truth.stage)
    free = truth.stage == disease.Stage.S
    # Each of up to five terms is a rounded multiple of 2^-26.
    np.testing.assert_allclose(
      _night_hazards(world, state, scale(day))[free],
      truth.hazard[free],
      rtol=1e-6,
      atol=4e-8,
    )
  assert 0.2 < (truth.stage > 0).mean() < 0.95


@jax.jit
def _night(world, state, scale):
  """Hazards of the night with which a day ended.

  Who caught it then infects nobody yet, so the stages will do as they are.
  """
  behaviour = disease.withdrawn(state.stage, state.timer, state.course)
  return contacts.night(
    world.agents,
    world.places,
    world.tables,
    scale,
    state.stage,
    behaviour.astype(jnp.uint8),
  )


def _night_hazards(world, state, scale):
  return np.asarray(_night(world, state, jnp.asarray(scale))) * 2.0**-26


@pytest.mark.parametrize("context", disease.CONTEXTS)
def test_every_context_infects_somebody(context):
  """A context alone, all others closed; so none of them is empty here."""
  only = [
    policies.Change(day=0, context=name, scale=9.0 * (name == context))
    for name in disease.CONTEXTS
  ]
  world = cases.world(changes=only)
  state, counts = engine.run(world, cases.start(world), days=30)
  assert counts[-1, :, 0].sum() < 390
