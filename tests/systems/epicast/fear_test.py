"""Each way that fear comes and goes, alone."""

import dataclasses

import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast import disease, engine, policies, waves
from research.systems.epicast.broadcaster import Broadcaster, Level
from research.systems.epicast.disease import Stage
from research.systems.epicast.fear import Fear
from research.systems.epicast.population import build, synthetic
from tests.systems.epicast import cases

DAYS = 30
CLOSED = tuple(
  policies.Change(day=0, context=name, scale=0) for name in disease.CONTEXTS
)


def _run(contact=cases.STRONG, *, changes=(), people=None, who=None, **fear):
  """Last state and days of a run with some parameters of fear."""
  chosen = dataclasses.replace(cases.NONE, **fear)
  changes = (cases.NO_ORDER, *changes)
  world = cases.world(contact, changes=changes, fear=chosen, people=people)
  state = cases.start(world, fear=chosen, index_cases=who)
  return cases.run(world, state, DAYS)


def _still(contact=cases.STRONG):
  """Contacts that infect nobody."""
  return dataclasses.replace(contact, p_trans=0, school=0)


NOBODY = np.zeros(0, int)


def test_trap_07_fear_of_zero_is_no_fear_bit_for_bit():
  world = cases.world()
  plain, days = cases.run(world, cases.start(world), DAYS)
  for fear in (Fear(), cases.NONE):
    changes = () if fear == Fear() else (cases.NO_ORDER,)
    world = cases.world(fear=fear, changes=changes)
    state, found = cases.run(world, cases.start(world, fear=fear), DAYS)
    for name in ("stage", "timer", "course"):
      np.testing.assert_array_equal(getattr(state, name), getattr(plain, name))
    for name in engine.Daily._fields:
      np.testing.assert_array_equal(getattr(found, name), getattr(days, name))
    assert not cases.fearful(state).any()


def test_trap_07_without_fear_there_is_one_wave_at_most():
  """No season, no order, nobody infected again; over a year, in 3,000."""
  people = build.build(*synthetic.region(3000))
  world = cases.world(disease.Contacts(), people=people)
  for seed in range(3):
    start = cases.start(world, seed=seed, index_cases=np.arange(0, 3000, 300))
    _, days = engine.run(world, start, days=360)
    share = np.asarray(days.infections).sum(1) / len(people)
    assert share.sum() > 0.3
    assert len(waves.find(share, people=len(people)).days) == 1


def test_fear_without_behaviour_disturbs_no_infection():
  """Its draws are its own: whoever is infected is so in either scenario."""
  plain, _ = _run()
  state, _ = _run(phi_ff=0.03, phi_sf=0.1, phi_self=0.5, rho_f=0.4, gamma_f=0.1)
  assert cases.fearful(state).sum() > 50
  np.testing.assert_array_equal(state.stage, plain.stage)
  np.testing.assert_array_equal(state.timer, plain.timer)


def test_trap_06_without_contact_only_broadcasters_frighten():
  """Nobody meets anybody, not even at home; some fell ill before."""
  local = {"phi_ff": 5.0, "phi_sf": 5.0, "initial": 0.1}
  for start in (None, NOBODY):
    state, days = _run(changes=CLOSED, who=start, **local)
    assert (np.diff(np.asarray(days.fearful).sum(1)) == 0).all()
    assert 10 < cases.fearful(state).sum() < 100
  loud = dataclasses.replace(cases.SILENT[0], strength=200), cases.SILENT[1]
  _, days = _run(changes=CLOSED, broadcasters=loud, **local)
  assert np.asarray(days.fearful).sum(1)[-1] > 200
  _, open_days = _run(_still(), **local)
  assert np.asarray(open_days.fearful).sum(1)[-1] > 200


@pytest.mark.parametrize(
  ("level", "reached"),
  [(Level.NATION, True), (Level.STATE, False), (Level.COUNTY, False)],
)
def test_trap_06_only_wide_broadcasters_frighten_far_counties(level, reached):
  """Two counties of two states; the second has no illness at all."""
  people = dataclasses.replace(cases.population(), fips=np.array([1001, 2001]))
  home = people.county[people.home_community]
  ill = np.flatnonzero(home == 0)[::10]
  source = dataclasses.replace(cases.SILENT[0], level=level, strength=20)
  _, days = _run(
    _still(), people=people, who=ill, broadcasters=(source, cases.SILENT[1])
  )
  assert days.symptomatic[:, 0].sum() > 5
  assert days.symptomatic[:, 1].sum() == 0
  assert days.fearful[-1, 0] > 20
  assert (days.fearful[-1, 1] > 20) == reached
  if not reached:
    assert not days.fearful[:, 1].any()


def test_trap_06_agents_keep_their_fear_when_illness_is_gone():
  """Fear is a state of agents that fades; it follows no prevalence."""
  # All are ill in the first days, and frightened once, by getting symptoms.
  everybody = np.arange(400)
  state, days = _run(who=everybody, phi_self=50, gamma_f=0.02)
  assert not np.isin(state.stage, (Stage.S, Stage.E, Stage.P, Stage.IS)).any()
  left = cases.fearful(state)
  assert 0.3 < left[np.asarray(state.stage) == Stage.RS].mean() < 0.95
  fearful = np.asarray(days.fearful).sum(1)
  # The last to fall ill do so on day 9; then it only fades, and not at once.
  assert (np.diff(fearful[9:]) <= 0).all()
  assert 1 < len(set(fearful[9:].tolist()))


def test_fear_spreads_from_fearful_to_neutral_without_illness():
  _, days = _run(who=NOBODY, phi_ff=0.05, initial=0.05)
  fearful = np.asarray(days.fearful).sum(1)
  assert (np.diff(fearful) >= 0).all()
  assert fearful[0] < 60
  assert fearful[-1] > 200
  _, days = _run(who=NOBODY, phi_ff=0.05)
  assert not days.fearful.any()


@pytest.mark.parametrize("context", disease.CONTEXTS)
def test_every_context_alone_frightens(context):
  _, days = _run(who=NOBODY, phi_ff=0.3, initial=0.05, weights={context: 1.0})
  fearful = np.asarray(days.fearful).sum(1)
  assert fearful[-1] > fearful[0] + 5


def test_the_sick_frighten_those_they_meet():
  # One person with symptoms, met at home alone.
  course = disease.unpack(cases.start(cases.world()).course)
  people = cases.population()
  size = np.bincount(people.household)
  loud = ~np.asarray(course.asymptomatic) & (size[people.household] == 4)
  ill = np.flatnonzero(loud)[:1]
  state, _ = _run(_still(), who=ill, phi_sf=5, weights={"household": 1.0})
  found = np.flatnonzero(cases.fearful(state))
  with_them = np.flatnonzero(people.household == people.household[ill])
  # Nobody is frightened by their own symptoms.
  np.testing.assert_array_equal(found, np.setdiff1d(with_them, ill))


def test_own_symptoms_frighten_only_who_has_them():
  state, days = _run(phi_self=50)
  stage = np.asarray(state.stage)
  ill = np.isin(stage, (Stage.IS, Stage.RS))
  np.testing.assert_array_equal(cases.fearful(state), ill)
  np.testing.assert_array_equal(
    np.cumsum(days.symptomatic, 0), np.asarray(days.fearful)
  )


def test_recovery_from_symptoms_frightens_with_its_chance():
  state, _ = _run(who=np.arange(400), rho_f=0.4)
  stage, fearful = np.asarray(state.stage), cases.fearful(state)
  recovered = stage == Stage.RS
  assert not fearful[~recovered].any()
  share, sigma = fearful[recovered].mean(), np.sqrt(0.24 / recovered.sum())
  assert abs(share - 0.4) < 4 * sigma


def test_fear_fades_at_its_rate():
  state, days = _run(who=NOBODY, initial=1.0, gamma_f=0.05)
  share = cases.fearful(state).mean()
  expected = np.exp(-0.05 * DAYS)
  assert abs(share - expected) < 4 * np.sqrt(expected / 400)
  assert (np.diff(np.asarray(days.fearful).sum(1)) <= 0).all()


def test_the_recovered_calm_those_they_meet():
  people = cases.population()
  state, _ = _run(_still(), initial=1.0, gamma_r=20, weights={"household": 1.0})
  recovered = np.isin(np.asarray(state.stage), (Stage.RS, Stage.RA))
  homes = np.bincount(people.household, recovered)
  others = homes[people.household] - recovered
  np.testing.assert_array_equal(cases.fearful(state), others == 0)


def test_a_broadcaster_stays_on_air_until_its_lower_threshold():
  """The share that it reports rises over the first threshold, then falls."""
  heard = []
  for until in (0.015, 0.0):
    source = dataclasses.replace(
      cases.SILENT[0], strength=10, threshold=0.015, until=until
    )
    _, days = _run(
      _still(), who=np.arange(0, 400, 4), broadcasters=(source, cases.SILENT[1])
    )
    share = np.convolve(np.asarray(days.symptomatic).sum(1), np.ones(3)) / 1200
    # Of days t - 4 to t - 2, as a lag of two days and an average of three say.
    share = np.concatenate(([0, 0], share))[:DAYS]
    heard.append(np.asarray(days.fearful).sum(1))
    first = np.flatnonzero(share >= 0.015)
    assert len(first) > 0
    assert not heard[-1][: first[0]].any()
  assert heard[0][-1] + 5 < heard[1][-1]


def test_media_spread_tells_listeners_apart():
  loud = dataclasses.replace(cases.SILENT[0], strength=8), cases.SILENT[1]
  same, _ = _run(_still(), broadcasters=loud)
  other, _ = _run(_still(), broadcasters=loud, media_spread=1.0)
  assert len(np.unique(same.minds.media)) == 1
  media, fearful = np.asarray(other.minds.media), cases.fearful(other)
  assert abs(media.mean() - 64) < 8
  assert media[fearful].mean() > media[~fearful].mean() + 8


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Fear(rho_f=2), "fear: rho_f: got 2; expected from 0 to 1"),
    (lambda: Fear(phi_ff=-1), "phi_ff: got -1"),
    (lambda: Fear(weights={"home": 1}), "did you mean"),
    (lambda: Fear(behaviours=cases.IDLE * 3), "at most 4, each with its own"),
    (lambda: Broadcaster(strength=-1), "got a strength of -1"),
    (lambda: Broadcaster(strength=1, lag=0), "got a lag of 0"),
    (lambda: Broadcaster(strength=1, until=0.1), "on from 0.0 and off"),
  ],
)
def test_wrong_fear_is_told_in_one_line(make, message):
  with pytest.raises(errors.UserError, match=message) as caught:
    make()
  assert "\n" not in str(caught.value)
