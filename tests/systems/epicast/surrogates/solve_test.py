"""The solver's own choices change nothing."""

import dataclasses

import jax
import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast.surrogates import model, solve
from tests.systems.epicast.surrogates import cases

ONE = model.SEPIIRR


def test_half_the_tolerance_is_the_same_answer(afraid):
  with jax.enable_x64(True):
    off = [
      np.abs(solve.solve(ONE, cases.AFRAID, rtol=rtol) - afraid[ONE.name]).max()
      for rtol in (1e-3, 1e-6)
    ]
  assert off[1] < 1e-5
  assert off[1] < off[0] / 10


def test_half_the_time_at_twice_the_rates_is_the_same_answer(afraid):
  p = cases.AFRAID
  rates = ("beta", "phi_ff", "phi_sf", "gamma_f", "gamma_r")
  waits = ("latent_days", "presymptomatic_days", "infectious_days")
  fast = dataclasses.replace(
    p,
    **{name: 2 * getattr(p, name) for name in rates},
    **{name: getattr(p, name) / 2 for name in waits},
  )
  with jax.enable_x64(True):
    found = solve.solve(ONE, fast)
  np.testing.assert_allclose(
    found[:181], afraid[ONE.name][::2], rtol=0, atol=1e-8
  )


def test_single_precision_is_near(afraid):
  found = solve.solve(ONE, cases.AFRAID)
  assert found.dtype == np.float32
  assert np.abs(found - afraid[ONE.name]).max() < 1e-3
  assert np.abs(found.sum(1) - 1).max() < 1e-5


def test_a_batch_is_its_members(afraid):
  """More of them than are solved together, padded at the end."""
  sigma = np.append(np.linspace(0, 1, solve.LANES + 2), cases.AFRAID.sigma_f)
  with jax.enable_x64(True):
    found = solve.batch(ONE, cases.AFRAID, {"sigma_f": sigma})
    one = dataclasses.replace(cases.AFRAID, sigma_f=sigma[7])
    member = solve.solve(ONE, one)
  assert len(found) == solve.LANES + 3
  np.testing.assert_allclose(found[-1], afraid[ONE.name], atol=1e-8)
  np.testing.assert_allclose(found[7], member, atol=1e-8)
  attack = ONE.by_stage(found)[:-1, -1, 0]
  assert (np.diff(attack) < 0).all()


def test_trap_07_nothing_depends_on_the_date(afraid):
  """No season, no second seeding, no policy: the rest runs as from a start."""
  states = afraid[ONE.name]
  field = jax.jit(ONE.field)
  for day in (20, 90):
    now = states[day].astype(np.float32)
    jax.tree.map(
      np.testing.assert_array_equal,
      field(0.0, now, cases.AFRAID),
      field(200.0, now, cases.AFRAID),
    )
  susceptible = ONE.by_stage(states)[:, 0]
  assert (np.diff(susceptible) <= 0).all()


def test_what_cannot_be_solved_ends_with_one_line():
  stiff = dataclasses.replace(cases.AFRAID, latent_days=1e-6)
  message = "gave up after 20000 steps for 1 of 1 sets .* try stiff=True"
  with pytest.raises(errors.UserError, match=message) as caught:
    solve.solve(ONE, stiff)
  assert "\n" not in str(caught.value)
  assert "latent_days=1e-06" in str(caught.value)
