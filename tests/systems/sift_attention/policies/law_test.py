"""The paper's policy: recording, fitting, extrapolating and starting again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.systems.sift_attention import power_law, quantiles, selection
from research.systems.sift_attention.policies import control, law, running_fit

BATCH, HEADS = 2, 3


def _law(step):
  """A law of its own for each head: log alpha and beta `[b, h]`."""
  beta = np.linspace(0.6, 1.9, BATCH * HEADS).reshape(BATCH, HEADS)
  log_alpha = np.linspace(-1.0, 0.5, BATCH * HEADS).reshape(BATCH, HEADS)
  return log_alpha, beta, log_alpha - beta * np.log(step)


def _flat(value, size):
  """A row whose every score is the same, so that all quantiles are."""
  return jnp.broadcast_to(
    jnp.asarray(value, jnp.float32)[..., None], (BATCH, HEADS, size)
  )


def _warmed(policy, last, size=64):
  """The state after rows 1..last of the law."""
  state = policy.init(BATCH, HEADS)
  step = jax.jit(
    lambda state, scores, lengths: selection.select(
      policy, state, scores, lengths
    )
  )
  for s in range(1, last + 1):
    scores, lengths = _flat(_law(s)[2], size), jnp.full((BATCH,), s)
    chosen, state = step(state, scores, lengths)
    assert np.isneginf(chosen.log_threshold).all()  # exact while it warms up
    assert (chosen.keep.sum(-1) == s).all()
  return state


def test_recovers_the_law_of_every_head_through_the_policy():
  """Trap: a step off by one bends the line; S is the keys seen, from 1."""
  policy = law.PowerLaw(warmup=48)
  log_alpha, beta = policy.fitted(_warmed(policy, 48))
  np.testing.assert_allclose(beta, _law(1)[1], atol=2e-6)
  np.testing.assert_allclose(log_alpha, _law(1)[0], atol=5e-6)


def test_running_sums_recover_alpha_and_beta_to_1e_6():
  """The golden law, in float64: nothing but arithmetic is in the way."""
  with jax.enable_x64(True):
    moments = running_fit.empty(BATCH, HEADS)
    for s in range(1, 65):
      x = jnp.full((BATCH, 1), np.log(s))
      y = jnp.asarray(_law(s)[2])[..., None]
      live = jnp.ones((BATCH, 1), bool)
      moments = running_fit.add(moments, x, y, live)
    log_alpha, beta = running_fit.line(moments, -np.inf, np.inf)
    np.testing.assert_allclose(beta, _law(1)[1], atol=1e-6, rtol=0)
    np.testing.assert_allclose(
      np.exp(log_alpha), np.exp(_law(1)[0]), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("first", [1, 1024])
def test_running_fit_equals_the_fit_of_the_whole(first):
  """Trap: after a long prompt plain sums of float32 cancel to noise."""
  steps = np.arange(first, first + 32)
  noise = np.random.default_rng(0).standard_normal((BATCH, HEADS, 32))
  y = -1.3 * np.log(steps) + 0.1 * noise
  moments = running_fit.empty(BATCH, HEADS)
  for part in np.split(np.arange(32), [1, 2, 9]):
    x = jnp.tile(jnp.log(jnp.asarray(steps[part], jnp.float32)), (BATCH, 1))
    moments = running_fit.add(
      moments,
      x,
      jnp.asarray(y[..., part], jnp.float32),
      jnp.ones(x.shape, bool),
    )
  oracle = power_law.fit(y, steps)
  _, beta = running_fit.line(moments, -np.inf, np.inf)
  np.testing.assert_allclose(beta, oracle.beta, rtol=2e-3)
  middle = np.log(steps).mean()
  log_alpha, beta = running_fit.line(moments, 1.0, 1.0)
  null = power_law.fit_null(y, steps)
  np.testing.assert_allclose(beta, 1.0)
  np.testing.assert_allclose(
    log_alpha - middle, null.log_alpha - middle, atol=1e-4
  )


def test_the_fit_freezes_when_the_warm_up_is_over():
  policy = law.PowerLaw(warmup=16)
  state = _warmed(policy, 16)
  scores, lengths = _flat(_law(17)[2] - 5, 64), jnp.full((BATCH,), 17)
  scores = scores.at[..., 3].add(1)  # still below the threshold
  chosen, after = selection.select(policy, state, scores, lengths)
  np.testing.assert_allclose(chosen.log_threshold, _law(17)[2], atol=1e-5)
  for old, new in zip(
    jax.tree.leaves(state), jax.tree.leaves(after), strict=True
  ):
    np.testing.assert_array_equal(old, new)
  assert (chosen.keep.sum(-1) == 2).all()  # the newest and the highest


def test_a_new_prompt_starts_from_nothing():
  """Trap: (alpha, beta) of prompt A used again for B."""
  policy = law.PowerLaw(warmup=8)
  _warmed(policy, 8)
  again = policy.init(BATCH, HEADS)
  scores, lengths = _flat(-3.0 * np.ones((BATCH, HEADS)), 64), jnp.full(2, 9)
  chosen, _ = selection.select(policy, again, scores, lengths)
  assert np.isneginf(chosen.log_threshold).all()


def test_ragged_batch_equals_single_runs():
  """Trap: rows of different lengths, one of which ends its warm-up first."""
  policy = law.PowerLaw(warmup=12)
  generator = np.random.default_rng(0)
  scores = generator.standard_normal((20, BATCH, HEADS, 40)).astype(np.float32)
  scores = jnp.asarray(scores) - 4
  starts = np.array([1, 19])
  run = lambda rows, offsets: _scan(policy, rows, offsets)
  together = run(scores, jnp.asarray(starts))
  for index in range(BATCH):
    one = slice(index, index + 1)
    single = run(scores[:, one], jnp.asarray(starts[one]))
    np.testing.assert_array_equal(together.keep[:, one], single.keep)
    np.testing.assert_allclose(
      together.log_threshold[:, one], single.log_threshold, rtol=1e-5
    )


def _scan(policy, rows, starts):
  def step(state, inputs):
    index, scores = inputs
    chosen, state = selection.select(policy, state, scores, starts + index)
    return state, chosen

  state = policy.init(*rows.shape[1:3])
  return jax.lax.scan(step, state, (jnp.arange(len(rows)), rows))[1]


def test_vmap_equals_a_loop():
  policy = law.PowerLaw(warmup=6)
  rows = jax.random.normal(jax.random.key(0), (3, 10, BATCH, HEADS, 16)) - 3
  starts = jnp.array([1, 4])
  together = jax.vmap(lambda rows: _scan(policy, rows, starts))(rows)
  for index, single in enumerate(rows):
    alone = _scan(policy, single, starts)
    np.testing.assert_array_equal(together.keep[index], alone.keep)


@pytest.mark.parametrize(
  "policy",
  [
    law.PowerLaw(warmup=16),
    control.Controlled(law.fixed_beta(warmup=16, skip=8), 0.25),
  ],
  ids=["open", "closed"],
)
def test_200_steps_compile_once(policy):
  """Trap: a Python branch on the step would compile each of them."""
  traces = []

  @jax.jit
  def step(state, scores, lengths):
    traces.append(1)
    chosen, state = selection.select(policy, state, scores, lengths)
    return chosen.keep.sum(-1), state

  state = policy.init(BATCH, HEADS)
  scores = jax.random.normal(jax.random.key(0), (BATCH, HEADS, 256)) - 5
  kept = []
  for s in range(1, 201):
    count, state = step(state, scores, jnp.full((BATCH,), s, jnp.int32))
    kept.append(count)
  assert len(traces) == 1
  assert (kept[15] == 16).all()
  assert (kept[199] < 200).all()


def _prompt(length=1056):
  """Independent queries and keys, so that theta is proportional to 1 / S."""
  q_key, k_key = jax.random.split(jax.random.key(1))
  q = 2 * jax.random.normal(q_key, (1, length, 2, 4))
  return q, jax.random.normal(k_key, (1, length, 1, 4))


def test_a_long_prompt_does_not_break_the_fit():
  """Trap: fitted on P+1..P+w alone, beta explodes; log-spaced rows mend it."""
  q, k = _prompt()
  after = np.arange(1025, 1057)
  early = power_law.log_spaced_steps(8, 1024, 48)
  lengths = jnp.array([1024])

  def theta(steps):
    found = quantiles.log_score_quantiles(q, k, steps=steps, levels=(0.75,))
    return np.asarray(found[:, :, 0])

  def error(policy, steps, lengths):
    state = policy.observe(
      policy.init(1, 2), jnp.asarray(theta(steps)), jnp.asarray(steps), lengths
    )
    log_alpha, beta = policy.fitted(state)
    found = log_alpha - beta * np.log(4096)
    level = (theta(early) + np.log(early)).mean(-1) - np.log(4096)
    return float(abs(found - level).max()), beta

  literal = law.PowerLaw(warmup=32)
  wild, beta = error(literal, after, jnp.array([1056]))
  assert abs(beta - 1).max() > 2
  bounded = law.PowerLaw(warmup=32, least_beta=0.5, most_beta=2.0)
  held, beta = error(bounded, after, jnp.array([1056]))
  assert 0.5 <= beta.min() <= beta.max() <= 2.0
  spread, _ = error(law.PowerLaw(warmup=32), early, lengths)
  null, _ = error(law.fixed_beta(skip=0), after, jnp.array([1056]))
  assert max(spread, null) < 1.2
  assert held < wild


def test_observing_the_prompt_ends_the_warm_up_where_rows_suffice():
  """Rows past a shorter prompt's end are not recorded."""
  policy = law.PowerLaw(warmup=10)
  steps = jnp.arange(1, 13)
  log_alpha, beta, _ = _law(1)
  theta = log_alpha[..., None] - beta[..., None] * np.log(np.asarray(steps))
  theta = jnp.asarray(theta, jnp.float32).at[1, :, 8:].set(jnp.nan)
  state = policy.observe(
    policy.init(BATCH, HEADS), theta, steps, jnp.array([12, 8])
  )
  np.testing.assert_array_equal(state.seen[:, 0], [12, 8])
  found, exponent = policy.fitted(state)
  np.testing.assert_allclose(exponent, beta, atol=1e-5)
  scores = _flat(np.full((BATCH, HEADS), -50.0), 64)
  chosen, after = selection.select(policy, state, scores, jnp.array([13, 9]))
  assert np.isfinite(chosen.log_threshold[0]).all()
  assert np.isneginf(chosen.log_threshold[1]).all()
  # Only the sequence that still warms up goes on recording.
  np.testing.assert_array_equal(after.moments.count[:, 0], [12, 9])
  np.testing.assert_array_equal(policy.fitted(after)[1][0], exponent[0])


def test_skipped_rows_of_a_prompt_are_seen_but_not_fitted():
  steps = np.arange(1, 13)
  log_alpha, beta, _ = _law(1)
  theta = log_alpha[..., None] - beta[..., None] * np.log(steps)
  theta = jnp.asarray(theta, jnp.float32).at[..., :5].set(-40.0)
  policy = law.PowerLaw(warmup=12, skip=5)
  lengths = jnp.array([12, 12])
  state = policy.observe(
    policy.init(BATCH, HEADS), theta, jnp.asarray(steps), lengths
  )
  assert not policy.wants_scores(state)
  np.testing.assert_allclose(policy.fitted(state)[1], beta, atol=1e-5)


@pytest.mark.parametrize("length", [5, 16, 79, 1024, 100_000])
def test_steps_over_a_prompt_rise_and_end_with_it(length):
  steps = np.asarray(law.spread_steps(jnp.array([length]), 64))[0]
  assert (np.diff(steps) > 0).all()
  live = steps[steps <= length]
  assert len(live) == min(max(length - 15, 0), 64)
  assert length < 16 or live[-1] == length


def test_fixed_beta_anchors_the_level_at_the_last_rows():
  policy = law.fixed_beta(warmup=16, skip=8)
  log_alpha, beta = policy.fitted(_warmed(policy, 16))
  assert (beta == 1).all()
  steps = np.arange(9, 17)
  theta = np.stack([_law(s)[2] for s in steps], -1)
  null = power_law.fit_null(theta, steps)
  np.testing.assert_allclose(log_alpha, null.log_alpha, atol=1e-5)


def test_peaked_heads_do_not_lever_the_line():
  """Trap: log 0, and tails of hundreds of nats."""
  policy = law.PowerLaw(warmup=4, floor=-20.0)
  state = policy.init(BATCH, HEADS)
  for s in range(1, 5):
    scores = jnp.full((BATCH, HEADS, 8), -3e4).at[..., 0].set(0.0)
    chosen, state = selection.select(policy, state, scores, jnp.full(2, s))
  log_alpha, beta = policy.fitted(state)
  assert np.isfinite(log_alpha).all()
  assert abs(beta).max() < 100
  infinite = jnp.full((BATCH, HEADS, 8), -jnp.inf).at[..., 0].set(0.0)
  _, state = selection.select(
    law.PowerLaw(), law.PowerLaw().init(BATCH, HEADS), infinite, jnp.full(2, 8)
  )
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


@pytest.mark.parametrize(
  ("make", "text"),
  [
    (lambda: law.PowerLaw(level=1.5), r"level must lie in \(0, 1\], got 1.5"),
    (lambda: law.PowerLaw(warmup=4, skip=4), "got 4 of 4 rows"),
    (
      lambda: law.PowerLaw(least_beta=2.0, most_beta=1.0),
      "least_beta must not exceed most_beta, got 2.0 > 1.0",
    ),
  ],
)
def test_bad_options_are_named(make, text):
  with pytest.raises(ValueError, match=text):
    make()
