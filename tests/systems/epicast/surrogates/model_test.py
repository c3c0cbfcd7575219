"""Equations: against scipy, against closed forms, and what each term does."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import optimize

from research.runs import errors
from research.systems.epicast.disease import Stage
from research.systems.epicast.surrogates import model, solve
from research.systems.epicast.surrogates import parameters as params
from tests.systems.epicast.surrogates import cases

EACH = pytest.mark.parametrize("one", model.MODELS, ids=cases.IDS)


def _people(one, states):
  return states[..., : 2 * len(one.stages)]


def test_states_have_the_names_of_the_paper():
  assert model.SIR.states == ("S_N", "S_F", "Is_N", "Is_F", "Rs_N", "Rs_F")
  assert len(model.SIIRR.states) == 10
  assert len(model.SEPIIRR.states) == 14
  assert cases.HEARD.states[-3:] == ("signal_0", "signal_1", "signal_2")


@EACH
def test_equals_lsoda_on_equations_by_hand(one, afraid):
  found = afraid[one.name]
  field = cases.by_hand(one.name)
  want = cases.lsoda(lambda t, y: field(t, y, cases.AFRAID), found[0])
  assert np.abs(found - want).max() <= 1e-6
  attack = 1 - found[-1, :2].sum()
  assert attack > 0.3  # something happened
  assert one.fearful(found).max() > 0.2


@EACH
def test_nobody_is_lost(one, afraid):
  total = _people(one, afraid[one.name]).sum(1)
  assert np.abs(total - 1).max() <= 1e-12
  assert afraid[one.name].min() > -1e-12


def test_the_delayed_broadcaster_equals_lsoda():
  """The chain, the threshold, and new symptoms as what it sees."""
  parameters = dataclasses.replace(
    cases.AFRAID, phi_b=20.0, threshold=2e-3, lag_days=10.0
  )
  found = _batch(cases.HEARD, parameters, {"beta": [0.45, 0.5]})[0]
  plain = cases.by_hand(model.SEPIIRR.name)

  def field(t, y):
    change = np.array(plain(t, y[:14], parameters))
    heard = y[16] / (1 + (2e-3 / max(y[16], 1e-20)) ** 4)
    turned = 20.0 * heard * y[0:14:2]
    change[0::2] -= turned
    change[1::2] += turned
    onset = 0.6 * (y[4] + y[5]) / parameters.presymptomatic_days
    chain = np.array([onset, *y[14:]])
    return np.concatenate([change, 0.3 * (chain[:-1] - chain[1:])])

  want = cases.lsoda(field, found[0])
  assert np.abs(found - want).max() <= 1e-6
  assert np.abs(found[:, :14].sum(1) - 1).max() <= 1e-12
  assert found[:, 16].max() > 2e-3  # it did speak


@EACH
def test_without_fear_the_final_size_is_the_textbooks(one, calm):
  """ln(s∞ / s0) = −R0 (1 − s∞), all infected ones having been at the start."""
  states = calm[one.name]
  assert (one.fearful(states) == 0).all()
  ratio = float(one.reproduction_number(cases.CALM))
  start = 1 - cases.CALM.infected
  equation = lambda s: np.log(s / start) + ratio * (1 - s)
  left = optimize.brentq(equation, 1e-9, 1 / ratio, xtol=1e-14)
  assert abs(one.by_stage(states)[-1, Stage.S] - left) < 1e-6


@pytest.mark.slow
def test_switches_take_stages_away(afraid):
  """Short E and P, and nobody asymptomatic, leave SIR."""
  brief = dataclasses.replace(
    cases.AFRAID,
    latent_days=1e-4,
    presymptomatic_days=1e-4,
    p_asymptomatic=0.0,
  )
  with jax.enable_x64(True):
    long = solve.solve(model.SEPIIRR, brief, stiff=True, rtol=1e-6)
  long = model.SEPIIRR.by_stage(long)
  short = model.SIR.by_stage(afraid[model.SIR.name])
  np.testing.assert_allclose(long[1:], short[1:], atol=1e-3)


def test_trap_06_fear_is_a_state_that_people_carry():
  """It is not a function of prevalence: it comes late, and it stays."""
  parameters = dataclasses.replace(
    cases.CALM, phi_sf=3.0, gamma_f=1 / 60, sigma_f=1.0
  )
  states = _batch(model.SEPIIRR, parameters, {"beta": [0.45, 0.5]})[0]
  fearful, ill = (
    model.SEPIIRR.fearful(states),
    model.SEPIIRR.by_stage(states)[:, Stage.IS],
  )
  assert fearful.argmax() > ill.argmax() + 3
  late = fearful[-100:]
  assert ill[-100] < 1e-5
  np.testing.assert_allclose(np.diff(np.log(late)), -1 / 60, atol=2e-4)


@pytest.mark.parametrize("channel", ["phi_ff", "phi_sf", "rho_f", "phi_b"])
def test_trap_06_each_channel_alone_makes_fear_or_none(channel):
  """Contagion needs somebody fearful; the others need somebody ill."""
  value = {"phi_ff": 0.2, "phi_sf": 1.0, "rho_f": 0.5, "phi_b": 5.0}[channel]
  changes = {channel: [0.0, value, value, value]}
  changes |= {"infected": [1e-3, 1e-3, 0.0, 0.0], "fearful": [0, 0, 0, 1e-3]}
  states = _batch(cases.HEARD, cases.CALM, changes)
  none, outbreak, nothing, few = cases.HEARD.fearful(states).max(1)
  assert none == nothing == 0
  assert few >= 0.9e-3
  if channel == "phi_ff":
    assert outbreak == 0
    assert few > 0.99
  else:
    assert outbreak > 0.05
    np.testing.assert_allclose(few, 1e-3, rtol=1e-6)


def test_trap_08_people_stay_in_a_stage_as_long_as_its_mean_says(calm):
  """Person-days in a stage are the people who pass it times its mean."""
  one = model.SEPIIRR
  days = one.by_stage(calm[one.name])
  stay = np.trapezoid(days, axis=0)
  attack = 1 - days[-1, Stage.S]
  ill = attack * np.array([0.6, 0.4]) * cases.CALM.infectious_days
  np.testing.assert_allclose(stay[Stage.E], attack * 3.81, rtol=1e-3)
  np.testing.assert_allclose(stay[Stage.P], attack * 1.0, rtol=1e-3)
  np.testing.assert_allclose(stay[[Stage.IS, Stage.IA]], ill, rtol=1e-3)


@EACH
def test_trap_08_the_doubling_time_is_that_of_the_equations(one):
  """Growth solves R0's equation, whatever the solver's steps.

  One infected person's infections, discounted by growth r, add up to 1.
  """
  few = {"infected": [1e-9, 1e-3]}
  with jax.enable_x64(True):
    for rtol in (1e-5, 1e-9):
      early = solve.batch(one, cases.CALM, few, rtol=rtol)[0]
      infected = 1 - one.by_stage(early)[:, Stage.S]
      day = np.searchsorted(infected, 1e-5)
      growth = np.log(infected[day] / infected[day - 1])
      np.testing.assert_allclose(_discounted(one, growth), 1, atol=2e-3)


def _discounted(one, r):
  p = cases.CALM
  after = 1 / (r + 1 / p.infectious_days)
  total = after
  if one.asymptomatic:
    total = after * (0.6 + 0.4 * p.rel_trans_asymptomatic)
  if one.exposed:
    rest = 1 / (1 + r * p.presymptomatic_days)
    before = p.rel_trans_presymptomatic * p.presymptomatic_days * rest
    total = (before + rest * total) / (1 + r * p.latent_days)
  return p.beta * total


def test_trap_09_every_parameter_changes_something():
  parameters = dataclasses.replace(cases.AFRAID, phi_b=20.0, threshold=2e-3)
  names = params.NAMES
  base = np.array([float(getattr(parameters, name)) for name in names])
  table = np.tile(base, (len(names) + 1, 1))
  np.fill_diagonal(table, 1.1 * base)
  changes = dict(zip(names, table.T, strict=True))
  *found, plain = _batch(cases.HEARD, parameters, changes)
  change = np.abs(found - plain).max((1, 2))
  quiet = [
    name for name, size in zip(names, change, strict=True) if size < 1e-5
  ]
  assert quiet == []


def _batch(one, parameters, changes):
  with jax.enable_x64(True):
    return solve.batch(one, parameters, changes)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"sigma_f": -0.1}, "sigma_f: got -0.1; expected 0 or more"),
    ({"rho_f": 1.5}, "rho_f: got 1.5; expected a share from 0 to 1"),
    ({"latent_days": 0}, "latent_days: got 0; expected days above 0; to leave"),
    ({"sharpness": 0.5}, "sharpness: got 0.5; expected from 1 to 8"),
    ({"beta": np.inf}, "beta: got inf; expected 0 or more"),
    ({"beta": [0.1, np.nan]}, "beta: got nan; expected 0 or more"),
    ({"sigma": 0.1}, "got parameter 'sigma'; expected one of beta, latent"),
    (
      {"beta": [1, 2], "tau_f": [1, 1, 1]},
      "got changes of lengths {'beta': 2, 'tau_f': 3}; expected one length",
    ),
  ],
)
def test_bad_parameters_end_with_one_line(changes, message):
  with pytest.raises(errors.UserError) as caught:
    params.rows(cases.CALM, changes)
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)
  (name, *others), (value, *_) = changes, changes.values()
  if name in params.NAMES and not others:
    with pytest.raises(errors.UserError):
      dataclasses.replace(cases.CALM, **{name: np.asarray(value)})


def test_a_negative_delay_ends_with_one_line():
  with pytest.raises(errors.UserError, match="lag_stages: got -1; expected 0"):
    dataclasses.replace(cases.HEARD, lag_stages=-1)
