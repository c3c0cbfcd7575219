"""The closed-form fit, against known laws and against scipy."""

import numpy as np
import pytest
import scipy.stats

from research.systems.sift_attention import power_law

STEPS = np.arange(1, 65)


def _noisy(seed=0, shape=(3, 2), noise=0.3):
  generator = np.random.default_rng(seed)
  log_theta = -0.5 - 1.3 * np.log(STEPS)
  return log_theta + noise * generator.standard_normal((*shape, len(STEPS)))


@pytest.mark.parametrize(("alpha", "beta"), [(0.7, 1.0), (2.0, 0.4), (1, 2.5)])
def test_recovers_an_exact_law(alpha, beta):
  """Trap: a step that is off by one bends the line."""
  law = power_law.fit(np.log(alpha * STEPS.astype(float) ** -beta), STEPS)
  assert law.beta == pytest.approx(beta, abs=1e-6)
  assert np.exp(law.log_alpha) == pytest.approx(alpha, abs=1e-6)
  assert law.r2 == pytest.approx(1.0)


def test_an_off_by_one_step_is_seen():
  log_theta = -1.3 * np.log(STEPS.astype(float))
  shifted = power_law.fit(log_theta, STEPS + 1)
  assert abs(shifted.beta - 1.3) > 1e-2


def test_equals_scipy():
  log_theta = _noisy()
  law = power_law.fit(log_theta, STEPS)
  for index in np.ndindex(log_theta.shape[:-1]):
    oracle = scipy.stats.linregress(np.log(STEPS), log_theta[index])
    assert law.beta[index] == pytest.approx(-oracle.slope, rel=1e-10)
    assert law.log_alpha[index] == pytest.approx(oracle.intercept, rel=1e-10)
    assert law.r2[index] == pytest.approx(oracle.rvalue**2, rel=1e-10)


def test_predict_inverts_fit():
  law = power_law.fit(-1.3 * np.log(STEPS.astype(float))[None], STEPS)
  later = np.array([100, 1000])
  np.testing.assert_allclose(
    law.predict(later), -1.3 * np.log(later)[None], rtol=1e-9
  )


def test_the_null_fits_level_alone():
  """Trap: scores sum to 1, so theta ~ 1/S is what no law at all looks like."""
  null = power_law.fit_null(np.log(0.25 / STEPS.astype(float)), STEPS)
  assert null.beta == 1
  assert np.exp(null.log_alpha) == pytest.approx(0.25)
  assert null.r2 == pytest.approx(1.0)


def test_the_law_never_fits_worse_than_the_null():
  log_theta = _noisy(seed=1)
  law = power_law.fit(log_theta, STEPS)
  null = power_law.fit_null(log_theta, STEPS)
  assert (law.r2 >= null.r2).all()


def test_averages_fit_better_than_single_heads():
  """Trap: the R² of an average says little about the heads in it."""
  log_theta = _noisy(shape=(64,), noise=1.0)
  heads = power_law.fit(log_theta, STEPS).r2
  average = power_law.fit(log_theta.mean(0), STEPS).r2
  assert average > np.quantile(heads, 0.99)


def test_constant_quantiles_have_no_variance_to_explain():
  law = power_law.fit(np.full((2, len(STEPS)), -1.0), STEPS)
  np.testing.assert_allclose(law.beta, 0, atol=1e-12)
  assert np.isfinite(law.r2).all()


def test_one_step_is_not_enough():
  with pytest.raises(ValueError, match="at least 2 distinct steps, got 1"):
    power_law.fit(np.zeros((1, 1)), np.array([5]))


def test_log_spaced_steps_are_distinct_and_reach_both_ends():
  steps = power_law.log_spaced_steps(1, 2048, 128)
  assert len(steps) <= 128
  assert (np.diff(steps) > 0).all()
  assert steps[0] == 1
  assert steps[-1] == 2048


def test_bootstrap_covers_the_mean():
  """95 % intervals of a known mean contain it about 95 % of the time."""
  generator = np.random.default_rng(0)
  samples = generator.standard_normal((24, 400))
  low, high = power_law.bootstrap_interval(samples, seed=0)
  covered = ((low < 0) & (high > 0)).mean()
  assert 0.88 < covered < 0.99


def test_bootstrap_depends_on_its_seed_alone():
  samples = np.random.default_rng(0).standard_normal((9, 2))
  first = power_law.bootstrap_interval(samples, seed=3)
  again = power_law.bootstrap_interval(samples, seed=3)
  np.testing.assert_array_equal(first, again)
