"""Sweeps, phase diagrams and sensitivities."""

import dataclasses

import jax
import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast import waves
from research.systems.epicast.disease import Stage
from research.systems.epicast.surrogates import model, solve, sweep
from tests.systems.epicast.surrogates import cases

ONE = model.SEPIIRR
NAMES = ("sigma_f", "rho_f", "infectious_days")


def test_trap_07_without_fear_there_is_one_wave_at_most():
  """Whatever the disease, in each model and by each curve."""
  rng = np.random.default_rng(0)
  changes = {
    "beta": rng.uniform(0.1, 1.0, 256),
    "infectious_days": rng.uniform(2, 10, 256),
    "infected": 10 ** rng.uniform(-5, -2, 256),
  }
  with jax.enable_x64(True):
    for one in model.MODELS:
      stages = one.by_stage(solve.batch(one, cases.CALM, changes))
      for kind in ("infectious", "new_infections", "new_symptoms"):
        found = waves.count(waves.curve(stages, kind))
        assert found.max() == 1
        assert (found == 1).mean() > 0.3


def test_a_diagram_is_its_runs():
  grid = {"sigma_f": np.linspace(0, 0.5, 5), "gamma_f": [0.01, 0.02, 0.1]}
  with jax.enable_x64(True):
    found = sweep.phase_diagram(ONE, cases.AFRAID, grid)
    change = {"sigma_f": grid["sigma_f"][3], "gamma_f": 0.02}
    states = solve.solve(ONE, dataclasses.replace(cases.AFRAID, **change))
  assert found.names == ("sigma_f", "gamma_f")
  assert found.outcomes.waves.shape == (5, 3)
  stages = ONE.by_stage(states)
  ill = waves.curve(stages, "infectious")
  want = {
    "waves": len(waves.find(ill).days),
    "attack": 1 - stages[-1, Stage.S],
    "peak": ill.max(),
    "peak_day": ill.argmax(),
    "fearful": ONE.fearful(states).max(),
  }
  for name, value in want.items():
    cell = getattr(found.outcomes, name)[3, 1]
    np.testing.assert_allclose(cell, value, rtol=1e-6)


def test_a_diagram_has_two_parameters():
  with pytest.raises(errors.UserError, match="values of 1 param.* of two"):
    sweep.phase_diagram(ONE, cases.AFRAID, {"beta": [0.1]})


def test_sensitivities_are_finite_differences():
  with jax.enable_x64(True):
    found = sweep.sensitivities(ONE, cases.AFRAID, NAMES)
    step = 1e-4
    base = np.array([getattr(cases.AFRAID, name) for name in NAMES])
    both = np.concatenate([np.diag(step * base), np.diag(-step * base)])
    table = base + both
    changes = dict(zip(NAMES, table.T, strict=True))
    states = solve.batch(ONE, cases.AFRAID, changes)
  stages = ONE.by_stage(states)
  ill = waves.curve(stages, "infectious")
  for got, slopes, of in (
    (found.attack, found.attack_slopes, 1 - stages[:, -1, Stage.S]),
    (found.peak, found.peak_slopes, ill.max(1)),
  ):
    up, down = np.split(of, 2)
    np.testing.assert_allclose(slopes, (up - down) / (2 * step * base), 1e-4)
    np.testing.assert_allclose(got, of, rtol=0.01)
  assert np.abs(found.attack_slopes).min() > 1e-3
