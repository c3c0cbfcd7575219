"""Rules without memory, against their definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.systems.sift_attention import selection
from research.systems.sift_attention.policies import base, law, rules

LENGTHS = np.array([40, 17, 1])
NOTHING = selection.Always(newest=0)


def _log_scores(scale=2.0, seed=0, lengths=LENGTHS, heads=4, size=40):
  """Log scores of float64 softmax; what is dead is NaN."""
  scores = scale * np.random.default_rng(seed).standard_normal(
    (len(lengths), heads, size)
  )
  live = np.arange(size) < np.asarray(lengths)[:, None]
  top = np.where(live[:, None], np.exp(scores), 0).sum(-1, keepdims=True)
  scores = np.where(live[:, None], scores - np.log(top), np.nan)
  return jnp.asarray(scores, jnp.float32)


def _keep(policy, log_scores, lengths=LENGTHS, always=NOTHING):
  state = policy.init(*log_scores.shape[:2])
  lengths = jnp.asarray(lengths)
  chosen, _ = selection.select(policy, state, log_scores, lengths, always)
  return np.asarray(chosen.keep)


def _rows(log_scores):
  for batch, length in enumerate(LENGTHS):
    for head in range(log_scores.shape[1]):
      row = np.asarray(log_scores[batch, head, :length], np.float64)
      yield (batch, head), length, row


def test_dense_keeps_all_that_is_live_and_nothing_else():
  keep = _keep(rules.Dense(), _log_scores())
  np.testing.assert_array_equal(keep.sum(-1), np.tile(LENGTHS[:, None], (1, 4)))


@pytest.mark.parametrize("scale", [0.5, 4.0, 100.0])
def test_relative_to_max_equals_its_definition(scale):
  log_scores = _log_scores()
  keep = _keep(rules.RelativeToMax(scale), log_scores)
  for index, length, row in _rows(log_scores):
    ratio = np.exp(row - row.max())
    expected = ratio >= min(1.0, scale / length)
    np.testing.assert_array_equal(keep[index][:length], expected)


@pytest.mark.parametrize("mass", [0.5, 0.9, 0.99])
def test_top_mass_keeps_the_fewest_that_hold_it(mass):
  log_scores = _log_scores()
  keep = _keep(rules.TopMass(mass), log_scores)
  for index, length, row in _rows(log_scores):
    held = np.cumsum(np.sort(np.exp(row))[::-1])
    assert keep[index].sum() == np.searchsorted(held, mass) + 1
    assert np.exp(row)[keep[index][:length]].sum() >= mass - 1e-6


@pytest.mark.parametrize("level", [0.5, 0.75, 0.9, 1.0])
def test_quantile_keeps_the_upper_share_of_each_row(level):
  log_scores = _log_scores()
  keep = _keep(rules.Quantile(level), log_scores)
  for index, length, row in _rows(log_scores):
    theta = np.quantile(row, level, method="inverted_cdf")
    np.testing.assert_array_equal(keep[index][:length], row >= theta)
    assert keep[index].sum() == length - np.ceil(level * length) + 1


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_top_k_keeps_k_or_the_whole_row(k):
  log_scores = _log_scores()
  keep = _keep(rules.TopK(k), log_scores)
  for index, length, row in _rows(log_scores):
    best = np.argsort(row)[-k:]
    np.testing.assert_array_equal(np.flatnonzero(keep[index]), np.sort(best))
    assert keep[index].sum() == min(k, length)


ALL = [
  rules.Dense(),
  rules.RelativeToMax(),
  rules.TopMass(),
  rules.Quantile(),
  rules.TopK(3),
]


@pytest.mark.parametrize("policy", ALL, ids=lambda p: type(p).__name__)
def test_peaked_heads_underflow_without_harm(policy):
  """Trap: scores that are 0 in float32 have finite logarithms."""
  log_scores = _log_scores(scale=200.0)
  assert float(jnp.exp(jnp.nanmin(log_scores))) == 0
  keep = _keep(policy, log_scores)
  assert keep.any(-1).all()
  top = np.nanargmax(np.asarray(log_scores), axis=-1)[..., None]
  assert np.take_along_axis(keep, top, -1).all()


@pytest.mark.parametrize("policy", ALL, ids=lambda p: type(p).__name__)
def test_ragged_batch_equals_single_runs(policy):
  """Trap: sequences of different lengths that share S."""
  log_scores = _log_scores()
  keep = _keep(policy, log_scores)
  for batch, length in enumerate(LENGTHS):
    single = _keep(policy, log_scores[batch : batch + 1, :, :length], [length])
    np.testing.assert_array_equal(keep[batch, :, :length], single[0])
    assert not keep[batch, :, length:].any()


@pytest.mark.parametrize(
  "policy", [rules.Dense(), rules.RelativeToMax(), law.PowerLaw()]
)
def test_a_kernel_needs_no_scores(policy):
  """The threshold of a row without scores is that of the full row."""
  row = base.make_row(_log_scores(), jnp.asarray(LENGTHS))
  state = policy.init(3, 4)
  assert policy.reads in ("step", "maximum")
  bare = row._replace(log_scores=None)
  np.testing.assert_array_equal(
    policy.threshold(state, bare), policy.threshold(state, row)
  )


@pytest.mark.parametrize(
  "policy", [rules.TopMass(), rules.Quantile(), rules.TopK(3)]
)
def test_policies_that_rank_say_that_they_need_scores(policy):
  row = base.make_row(_log_scores(), jnp.asarray(LENGTHS))
  assert policy.reads == "scores"
  with pytest.raises(ValueError, match="needs a row's scores, got its maximum"):
    policy.threshold((), row._replace(log_scores=None))


@pytest.mark.parametrize("policy", ALL, ids=lambda p: type(p).__name__)
def test_vmap_equals_a_loop(policy):
  stacked = jnp.stack([_log_scores(seed=s) for s in range(3)])
  lengths = jnp.asarray(LENGTHS)
  pick = lambda x: selection.select(policy, (), x, lengths)[0].keep
  together = jax.vmap(pick)(stacked)
  for index, single in enumerate(stacked):
    np.testing.assert_array_equal(together[index], pick(single))


@pytest.mark.parametrize(
  ("make", "text"),
  [
    (lambda: rules.RelativeToMax(0.0), "scale must be positive, got 0.0"),
    (lambda: rules.RelativeToMax(np.nan), "scale must be positive, got nan"),
    (lambda: rules.TopMass(1.0), "mass must lie between 0 and 1, got 1.0"),
    (lambda: rules.Quantile(0.0), r"level must lie in \(0, 1\], got 0.0"),
    (lambda: rules.TopK(0), "k must be at least 1, got 0"),
  ],
)
def test_bad_options_are_named(make, text):
  with pytest.raises(ValueError, match=text):
    make()
