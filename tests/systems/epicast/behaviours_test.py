"""What reasons do, and that each one ends alone."""

import dataclasses
import itertools

import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast import behaviours, disease, policies
from research.systems.epicast.behaviours import Behaviour
from research.systems.epicast.disease import Stage
from tests.systems.epicast import cases

DAYS = 30
AWAY = Behaviour(name="away", compliance=0.5, withdraw=("all",))
# Everybody is fearful for good, half of them comply; no other fear.
AFRAID = dataclasses.replace(
  cases.NONE, initial=1.0, behaviours=(AWAY, cases.IDLE[1])
)
CALMING = dataclasses.replace(AFRAID, gamma_f=10.0)
OUTSIDE = (policies.Change(day=0, context="household", scale=0),)
UNTIL_6 = (
  policies.Shelter(day=3, compliance=1),
  policies.Shelter(day=6, compliance=0),
)


def _run(changes, fear, history=cases.HISTORY, who=None):
  """Stages after the order ended, and at the end."""
  world = cases.world(history=history, changes=changes, fear=fear)
  state = cases.start(world, history=history, fear=fear, index_cases=who)
  return cases.run(world, state, DAYS)


def test_trap_10_an_order_that_ends_leaves_the_fearful_at_home():
  who = np.arange(0, 400, 8)
  state, days = _run((*OUTSIDE, *UNTIL_6), AFRAID, who=who)
  new = np.asarray(days.infections).sum(1)
  assert new[:3].sum() > 0
  assert new[3:6].sum() == 0
  assert new[6:].sum() > 20
  complies = np.asarray(state.minds.mind) & behaviours.FEAR > 0
  infected = np.asarray(state.stage) > Stage.S
  infected[who] = False
  assert infected[~complies].mean() > 0.1
  assert not infected[complies].any()


def test_trap_10_order_and_fear_that_end_leave_the_sick_at_home():
  """Who can infect is at home for symptoms, whatever else ends."""
  history = dataclasses.replace(
    cases.HISTORY,
    p_asymptomatic=0,
    rel_trans_asymptomatic=0,
    withdrawal=((1, 1, 1),) * 5,
  )
  changes = (*OUTSIDE, *UNTIL_6)
  state, days = _run(changes, CALMING, history, np.arange(0, 400, 4))
  assert not cases.fearful(state).any()
  assert np.asarray(days.stages)[7:, :, Stage.IS].sum() > 20
  assert days.infections.sum() == 0
  loose = dataclasses.replace(history, withdrawal=((0, 0, 0),) * 5)
  _, days = _run(changes, CALMING, loose, np.arange(0, 400, 4))
  assert np.asarray(days.infections)[7:].sum() > 20


def test_trap_10_fear_that_ends_leaves_an_order():
  forever = (*OUTSIDE, policies.Shelter(day=3, compliance=1))
  state, days = _run(forever, CALMING)
  assert not cases.fearful(state).any()
  assert np.asarray(days.infections)[3:].sum() == 0


def test_more_compliance_keeps_the_same_people_at_home_and_some_more():
  share = np.linspace(0, 1, 5)
  found = []
  for compliance in share:
    order = policies.Shelter(day=0, compliance=compliance)
    state, _ = _run((*OUTSIDE, order), AFRAID)
    found.append(np.asarray(state.obeys) < round(256 * compliance))
  assert all((few <= many).all() for few, many in itertools.pairwise(found))
  np.testing.assert_allclose([who.mean() for who in found], share, atol=0.1)


def test_effects_multiply_and_withdrawal_joins():
  careful = Behaviour(
    name="careful",
    susceptibility=0.5,
    infectiousness=0.25,
    withdraw=("schools",),
    mask=("work", "community"),
    mask_in=0.5,
    mask_out=0.25,
    distance={"work": 0.5, "household": 0.75},
  )
  table = behaviours.tabulate((careful, AWAY), orders=True)
  assert table.emits.shape == (16, len(disease.CONTEXTS))
  of = disease.CONTEXTS.index
  row = behaviours.FEAR
  want = {"household": (12, 24), "work": (2, 8), "cluster": (16, 32)}
  want |= {"community": (4, 16), "class": (0, 0), "school": (0, 0)}
  for name, (gives, takes) in want.items():
    assert table.emits[row, of(name)] == gives
    assert table.receives[row, of(name)] == takes
  for other in (
    behaviours.SYMPTOMS,
    behaviours.FEAR << 1,
    behaviours.FEAR << 2,
  ):
    assert table.there[other].tolist() == [True] + [False] * 8
    np.testing.assert_array_equal(table.emits[row | other, 1:], 0)
    assert table.emits[row | other, 0] == 12
  assert table.there[0].all()
  assert (table.emits[0] == 64).all()


@pytest.mark.parametrize(
  "change",
  [
    {"susceptibility": 0.25},
    {"infectiousness": 0.25},
    {"withdraw": ("social",)},
    {"mask": ("all",), "mask_in": 0.25},
    {"mask": ("all",), "mask_out": 0.25},
    {"distance": {"all": 0.25}},
  ],
  ids=lambda change: list(change)[-1],
)
def test_each_behaviour_saves_people(change):
  order = policies.Shelter(day=0, compliance=0)
  none = dataclasses.replace(AWAY, withdraw=(), compliance=1)
  infected = []
  for item in (none, dataclasses.replace(none, **change)):
    fear = dataclasses.replace(AFRAID, behaviours=(item, cases.IDLE[1]))
    _, days = _run((order,), fear)
    infected.append(int(days.infections.sum()))
  assert infected[1] < 0.8 * infected[0]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"compliance": 1.5}, "x: compliance: got 1.5; expected from 0 to 1"),
    ({"withdraw": ("household",)}, "got withdrawal from the household"),
    ({"mask": ("wrok",)}, "did you mean 'work'"),
    ({"distance": {"work": 2}}, "distance in work: got 2"),
  ],
)
def test_wrong_behaviours_are_told_in_one_line(change, message):
  with pytest.raises(errors.UserError, match=message):
    Behaviour(name="x", **change)
