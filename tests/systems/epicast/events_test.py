"""The event log: complete, changing nothing, and from the right contacts."""

import jax
import numpy as np
import pytest

from research import mesh as mesh_lib
from research.systems.epicast import sharding
from research.systems.epicast.disease import CONTEXTS, Stage
from tests.systems.epicast import cases, logs, oracle


@pytest.fixture(scope="module")
def logged():
  return logs.alone()


def _equal(one, other):
  for name, column in one.items():
    np.testing.assert_array_equal(column, other[name], name)


def test_the_log_tells_every_state(logged):
  """Replayed, events give each day's stages and fear; nothing is missing."""
  log, states, _ = logged
  n = len(cases.population())
  stage, fearful = np.zeros(n, int), np.zeros(n, bool)
  codes = {
    "infected": Stage.E,
    "presymptomatic": Stage.P,
    "symptomatic": Stage.IS,
    "asymptomatic": Stage.IA,
  }
  for day, state in enumerate(states):
    for row in np.flatnonzero(log["day"] == day - 1):
      agent, event = log["agent"][row], log["event"][row]
      if event in ("fearful", "calm"):
        assert fearful[agent] == (event == "calm")
        fearful[agent] = event == "fearful"
      elif event == "recovered":
        assert stage[agent] in (Stage.IS, Stage.IA)
        stage[agent] += 2
      else:
        stage[agent] = codes[event]
    np.testing.assert_array_equal(stage, np.asarray(state.stage)[:n])
    np.testing.assert_array_equal(fearful, cases.fearful(state)[:n])
  assert (log["event"] == "calm").sum() > 20


def test_every_infector_was_infectious_and_there(logged):
  log, _, _ = logged
  meet = oracle.meetings(cases.population())
  begins, ends = {}, {}
  passed = log["source"] == "contact"
  assert passed.sum() > 50
  for row in range(len(log["step"])):
    agent, step = log["agent"][row], log["step"][row]
    if log["event"][row] == "presymptomatic":
      begins[agent] = step
    elif log["event"][row] == "recovered":
      ends[agent] = step
  for row in np.flatnonzero(passed):
    by, agent, step = (log[name][row] for name in ("by", "agent", "step"))
    assert begins[by] <= step < ends.get(by, np.inf)
    context = log["context"][row]
    assert meet[context][agent, by]
    assert (CONTEXTS.index(context) < 4) == (log["half"][row] == 1)
  assert len(set(log["context"][passed])) >= 6


def test_trap_11_a_full_buffer_loses_no_row(logged):
  """Buffers of 5 rows: the rest follows and is counted."""
  found, _, spilled = logs.record(*logs.start(), capacity=5)
  _equal(found, logged[0])
  assert spilled > 100
  assert logged[2] == 0


def test_trap_03_the_log_is_that_of_any_order_of_agents(logged):
  world, state = logs.start()
  size = len(world.agents.age)
  order = np.random.default_rng(0).permutation(size)
  mix = lambda leaf: leaf[order] if leaf.shape[:1] == (size,) else leaf
  world = world._replace(agents=jax.tree.map(mix, world.agents))
  found, _, _ = logs.record(world, jax.tree.map(mix, state))
  _equal(found, logged[0])


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_trap_02_device_counts_change_no_row(logged, devices):
  mesh = mesh_lib.make_mesh({"data": devices})
  world, state = sharding.place(*logs.start(multiple=devices), mesh)
  found, _, _ = logs.record(world, state, mesh, capacity=8, days=12)
  until = logged[0]["day"] < 12
  _equal(found, {name: column[until] for name, column in logged[0].items()})
