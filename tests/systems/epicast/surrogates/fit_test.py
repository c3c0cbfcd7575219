"""Fits: what is known comes back, and what does not fit is said."""

import dataclasses

import jax
import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast import engine, waves
from research.systems.epicast.surrogates import fit, model, solve
from tests.systems.epicast import cases as agents
from tests.systems.epicast.surrogates import cases

ONE = model.SEPIIRR
TRUTH = cases.AFRAID
BOUNDS = {"beta": (0.1, 2.0), "sigma_f": (0.0, 1.0), "gamma_f": (0.002, 0.5)}
PEOPLE = 100_000


@pytest.fixture(scope="module")
def expected(afraid):
  """New infections a day by the truth."""
  return waves.curve(ONE.by_stage(afraid[ONE.name]), "new_infections")


@pytest.fixture(scope="module")
def guess():
  return dataclasses.replace(TRUTH, beta=1.0, sigma_f=0.9, gamma_f=0.3)


def test_its_own_trajectory_comes_back(expected, guess):
  found = fit.fit(ONE, guess, BOUNDS, expected, people=PEOPLE, refined=2)
  for name in BOUNDS:
    got, want = getattr(found.parameters, name), getattr(TRUTH, name)
    np.testing.assert_allclose(got, want, rtol=1e-4)
  assert found.converged
  assert found.at_bounds == found.misfits == ()
  assert np.abs(found.residuals).max() < 1e-3


def test_errors_are_those_of_noise(expected, guess):
  """Of counts by chance: the truth within 4 errors, dispersion about 1."""
  rng = np.random.default_rng(0)
  noisy = rng.poisson(PEOPLE * np.maximum(expected, 0)) / PEOPLE
  found = fit.fit(ONE, guess, BOUNDS, noisy, people=PEOPLE, refined=2)
  for name in BOUNDS:
    off = getattr(found.parameters, name) - getattr(TRUTH, name)
    assert 0.01 < abs(off) / found.errors[name] < 4
    assert found.errors[name] < 0.2 * getattr(TRUTH, name)
  assert 0.75 < found.dispersion < 1.3
  assert found.misfits == ()


def test_a_wrong_model_is_told_where(expected):
  """Without fear nothing bends down; with a bound in the way, it says so."""
  calm = dataclasses.replace(cases.CALM, infected=1e-3)
  bounds = {"beta": (0.4, 2.0), "latent_days": (2, 6), "infected": (1e-4, 0.1)}
  found = fit.fit(ONE, calm, bounds, expected, people=PEOPLE, refined=1)
  assert found.dispersion > 10
  assert "beta" in found.at_bounds
  assert found.misfits
  worst = max(found.misfits, key=lambda one: abs(one.mean))
  assert 0 <= worst.first <= worst.last < len(expected)
  inside = found.residuals[worst.first : worst.last + 1]
  assert worst.mean == pytest.approx(inside.mean())


def test_what_the_curve_does_not_tell_has_no_error():
  """Without fear, what fear does cannot be seen."""
  with jax.enable_x64(True):
    states = solve.solve(ONE, cases.CALM)
  curve = waves.curve(ONE.by_stage(states), "new_infections")
  curve = np.maximum(curve, 0)  # but for the solver's error
  bounds = {"beta": (0.1, 2.0), "tau_f": (0.0, 1.0), "gamma_f": (0.002, 0.5)}
  found = fit.fit(ONE, cases.CALM, bounds, curve, people=PEOPLE, refined=1)
  assert found.parameters.beta == pytest.approx(cases.CALM.beta, rel=1e-4)
  assert found.errors["tau_f"] == found.errors["gamma_f"] == np.inf
  assert found.errors["beta"] < 0.1


@pytest.mark.slow
def test_agents_without_fear_are_near_the_equations():
  """The size of their outbreak comes out, though they mix in groups."""
  world = agents.world()
  state = agents.start(world)
  parts = [np.bincount(state.stage, minlength=8)[None]]
  for _ in range(cases.DAYS // 30):
    state, counts = engine.run(world, state, days=30)
    parts.append(np.asarray(counts.stages).sum(1))
  observed = waves.curve(np.concatenate(parts), "new_infections")
  people = len(agents.population())
  start = dataclasses.replace(cases.CALM, infected=10 / people)
  bounds = {
    "beta": (0.05, 5.0),
    "infectious_days": (1.0, 10.0),
    "latent_days": (1.0, 10.0),
  }
  found = fit.fit(ONE, start, bounds, observed, people=people, refined=2)
  assert found.converged
  assert abs(found.curve.sum() - observed.sum()) < 0.1
  assert found.dispersion < 2


@pytest.mark.parametrize(
  ("bounds", "observed", "message"),
  [
    ({"beta": (1.0, 1.0)}, np.zeros(30), "got 1 to 1; expected the lower"),
    ({"betta": (0.0, 1.0)}, np.zeros(30), "got parameter 'betta'"),
    ({"beta": (0.0, 1.0)}, np.zeros(7), "got 7 days for 1 parameters"),
    ({"beta": (0.0, 1.0)}, np.full(30, 25.0), "divide the counts"),
  ],
)
def test_bad_input_ends_with_one_line(bounds, observed, message):
  with pytest.raises(errors.UserError, match=message) as caught:
    fit.fit(ONE, cases.CALM, bounds, observed, people=100)
  assert "\n" not in str(caught.value)
