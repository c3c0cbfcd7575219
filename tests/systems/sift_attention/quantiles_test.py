"""Quantiles by counting, against sorting and against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from research.systems.sift_attention import quantiles

LEVELS = (0.5, 0.75, 0.875, 0.9375)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
  seed=st.integers(0, 1000),
  live=st.integers(1, 33),
  level=st.sampled_from((*LEVELS, 0.1, 0.7, 1.0)),
  scale=st.sampled_from((1e-3, 1.0, 30.0)),
)
def test_equals_the_order_statistic(seed, live, level, scale):
  values = scale * np.random.default_rng(seed).standard_normal(33)
  values = values.astype(np.float32)
  found = quantiles.count_quantile(
    jnp.asarray(values), jnp.arange(33) < live, level
  )
  exact = np.quantile(values[:live], level, method="inverted_cdf")
  np.testing.assert_allclose(found, exact, atol=3e-6 * max(scale, 1), rtol=1e-5)


def test_ties_and_constant_rows():
  same = jnp.full((2, 5), -3.0)
  found = quantiles.count_quantile(same, jnp.ones((2, 5), bool), 0.75)
  np.testing.assert_allclose(found, -3.0, rtol=1e-5)


def test_values_that_do_not_count_may_be_anything():
  values = jnp.array([1.0, 2.0, jnp.nan, jnp.inf])
  live = jnp.array([True, True, False, False])
  assert float(quantiles.count_quantile(values, live, 1.0)) == pytest.approx(2)


def _random_heads(scale=1.0):
  q_key, k_key = jax.random.split(jax.random.key(0))
  q = scale * jax.random.normal(q_key, (2, 24, 6, 8))
  return q, jax.random.normal(k_key, (2, 24, 2, 8))


def _log_scores(q, k, step):
  """Logarithms of one step's scores in float64, `[b, h, step]`."""
  q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
  k = np.repeat(k, q.shape[2] // k.shape[2], axis=2)
  scores = np.einsum("bhd,bthd->bht", q[:, step - 1], k[:, :step]) / 8**0.5
  return scores - scipy.special.logsumexp(scores, axis=-1, keepdims=True)


def test_equals_the_quantile_of_softmax_scores():
  """Trap: S is the number of keys seen, not the position (off by one)."""
  q, k = _random_heads()
  steps = np.array([1, 2, 7, 16, 24])
  found = quantiles.log_score_quantiles(q, k, steps=steps, levels=LEVELS)
  assert found.shape == (2, 6, len(LEVELS), len(steps))
  for row, step in enumerate(steps):
    scores = np.exp(_log_scores(q, k, step))
    for index, level in enumerate(LEVELS):
      exact = np.quantile(scores, level, axis=-1, method="inverted_cdf")
      np.testing.assert_allclose(
        found[:, :, index, row], np.log(exact), atol=1e-4
      )


def test_the_first_step_sees_one_key_with_all_the_weight():
  q, k = _random_heads()
  found = quantiles.log_score_quantiles(
    q, k, steps=np.array([1]), levels=(0.5,)
  )
  np.testing.assert_allclose(found, 0.0, atol=1e-5)


def test_peaked_heads_do_not_underflow():
  """Trap: quantiles of scores that are 0 in float32 have finite logarithms."""
  q, k = _random_heads(scale=300.0)
  log_scores = _log_scores(q, k, 24)
  assert (np.exp(log_scores) < np.finfo(np.float32).tiny).any()
  found = quantiles.log_score_quantiles(
    q, k, steps=np.array([24]), levels=(0.5,)
  )
  exact = np.quantile(log_scores, 0.5, axis=-1, method="inverted_cdf")
  assert np.isfinite(found).all()
  np.testing.assert_allclose(found[:, :, 0, 0], exact, rtol=1e-4)


def test_never_makes_all_scores():
  """No intermediate array grows with the square of the length."""
  q, k = _random_heads()
  trace = jax.make_jaxpr(
    lambda q, k: quantiles.log_score_quantiles(
      q, k, steps=np.array([3, 24]), levels=(0.5,)
    )
  )(q, k)
  sizes = [
    v.aval.size for e in trace.jaxpr.eqns for v in e.outvars if v.aval.shape
  ]
  assert max(sizes) < 2 * 6 * 24 * 24
