"""Sifted attention and its accounts, against definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.systems.sift_attention import selection, sifting
from research.systems.sift_attention.policies import law, rules

LENGTHS = np.array([33, 15])
TOP_5 = rules.TopK(5)


def _problem(scale=1.0, kv_heads=2, heads=6, size=33, seed=0):
  generator = np.random.default_rng(seed)
  scores = scale * generator.standard_normal((2, heads, size))
  live = (np.arange(size) < LENGTHS[:, None])[:, None]
  scores = np.where(live, scores, -np.inf)
  top = scores.max(-1, keepdims=True)
  log_p = scores - top - np.log(np.exp(scores - top).sum(-1, keepdims=True))
  v = generator.standard_normal((2, size, kv_heads, 4))
  return log_p, jnp.asarray(log_p, jnp.float32), jnp.asarray(v, jnp.float32)


def _keep(log_p, policy=TOP_5):
  return selection.select(policy, (), log_p, jnp.asarray(LENGTHS))[0].keep


def _definition(log_p, keep, v, renormalise):
  weights = np.where(keep, np.exp(log_p), 0)
  if renormalise:
    weights /= weights.sum(-1, keepdims=True)
  v = np.repeat(np.asarray(v, np.float64), log_p.shape[1] // v.shape[2], 2)
  return np.einsum("bht,bthd->bhd", weights, v)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("renormalise", [True, False])
def test_equals_the_float64_definition(renormalise, kv_heads):
  """Trap: the mass of what was dropped, divided away or not."""
  exact, log_p, v = _problem(kv_heads=kv_heads)
  keep = _keep(log_p)
  found = sifting.sift(log_p, keep, v, renormalise=renormalise)
  expected = _definition(exact, np.asarray(keep), v, renormalise)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  other = _definition(exact, np.asarray(keep), v, not renormalise)
  assert abs(found - other).max() > 1e-2


def test_renormalised_weights_sum_to_1():
  _, log_p, v = _problem()
  found = sifting.sift(log_p, _keep(log_p), jnp.ones_like(v))
  np.testing.assert_allclose(found, 1.0, rtol=1e-6)


def test_kept_scores_that_all_underflow_still_give_an_average():
  """Trap: 0 / 0 where a window misses all of a peaked head's mass."""
  log_p = jnp.full((1, 1, 4), -300.0).at[..., 0].set(0.0)
  keep = jnp.array([[[False, False, True, True]]])
  v = jnp.arange(4.0).reshape(1, 4, 1, 1)
  assert float(sifting.sift(log_p, keep, v)[0, 0, 0]) == pytest.approx(2.5)


def test_skipped_rows_never_reach_the_result():
  """Trap: loading everything and multiplying by 0."""
  _, log_p, v = _problem()
  keep = _keep(log_p)
  read = sifting.rows_read(keep, v.shape[2]).transpose(0, 2, 1)[..., None]
  assert not read.all()
  poisoned = jnp.where(read, v, jnp.nan)
  np.testing.assert_array_equal(
    sifting.sift(log_p, keep, poisoned), sifting.sift(log_p, keep, v)
  )


def test_rows_after_the_union_are_counted():
  """Trap: score sparsity reported as rows saved."""
  _, log_p, v = _problem()
  keep = np.asarray(_keep(log_p))
  stats = sifting.measure(
    log_p, jnp.asarray(keep), jnp.asarray(LENGTHS), v.shape[2]
  )
  for batch in range(2):
    for group in range(2):
      heads = keep[batch, 3 * group : 3 * group + 3]
      union = {int(j) for head in heads for j in np.flatnonzero(head)}
      assert stats.rows[batch, group] == len(union)
  np.testing.assert_array_equal(stats.kept, keep.sum(-1))
  np.testing.assert_allclose(
    stats.mass, (np.exp(log_p) * keep).sum(-1), rtol=1e-5
  )
  used = sifting.budget(
    jax.tree.map(lambda x: x[None], stats), after=0, width=4, itemsize=2
  )
  assert used.row_share > used.kept_share
  rows = int(stats.rows.sum())
  assert used.bytes_read == (2 * LENGTHS.sum() + rows) * 4 * 2
  assert used.byte_share == pytest.approx((1 + used.row_share) / 2)
  np.testing.assert_allclose(used.head_share, keep.sum(-1) / LENGTHS[:, None])


def test_heads_that_do_not_divide_are_named():
  with pytest.raises(ValueError, match="6 query heads do not divide among 4"):
    sifting.rows_read(jnp.ones((1, 6, 2), bool), 4)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_the_certificate_bounds_the_error(scale):
  _, log_p, v = _problem(scale=scale)
  keep = _keep(log_p, rules.Quantile(0.75))
  lengths = jnp.asarray(LENGTHS)
  v = jnp.where(
    (jnp.arange(33)[None] < lengths[:, None])[..., None, None], v, 0
  )
  mass = sifting.measure(log_p, keep, lengths, 2).mass
  dense = sifting.sift(log_p, jnp.isfinite(log_p), v)
  error = jnp.linalg.norm(sifting.sift(log_p, keep, v) - dense, axis=-1)
  bound = sifting.error_bound(mass, v)
  assert (error <= bound + 1e-5).all()
  # Values all alike in one place and opposite elsewhere: the bound is met.
  sign = jnp.where(keep[:, 0], 1.0, -1.0)[..., None, None]
  v = jnp.broadcast_to(sign, (2, 33, 1, 1))
  one = log_p[:, :1], keep[:, :1]
  dense = sifting.sift(one[0], jnp.isfinite(one[0]), v)
  error = abs(sifting.sift(*one, v) - dense)[..., 0]
  np.testing.assert_allclose(
    error, sifting.error_bound(mass[:, :1], v), rtol=1e-4, atol=1e-5
  )


def _run(policy, steps=48, heads=4):
  def step(state, index):
    lengths = index[None] + 1
    key = jax.random.fold_in(jax.random.key(0), index)
    scores = jax.random.normal(key, (1, heads, steps))
    live = jnp.arange(steps) <= index
    total = jax.nn.logsumexp(scores, axis=-1, where=live, keepdims=True)
    log_p = scores - total
    chosen, state = selection.select(policy, state, log_p, lengths)
    return state, sifting.measure(log_p, chosen.keep, lengths, 2)

  return jax.lax.scan(step, policy.init(1, heads), jnp.arange(steps))[1]


def test_warm_up_rows_are_not_in_the_budget():
  """Trap: exact rows that dilute one policy's budget and not another's."""
  sift, oracle = _run(law.PowerLaw(warmup=16)), _run(rules.Quantile(0.75))
  accounts = dict(width=64, itemsize=2)
  diluted = sifting.budget(sift, after=0, **accounts)
  fair = sifting.budget(sift, after=16, **accounts)
  assert diluted.kept_share > fair.kept_share
  lengths = np.arange(17, 49)
  kept = np.asarray(sift.kept)[16:, 0]
  assert fair.kept_share == pytest.approx(kept.sum() / (4 * lengths.sum()))
  same = sifting.budget(oracle, after=16, **accounts)
  expected = (lengths - np.ceil(0.75 * lengths) + 1).sum() / lengths.sum()
  # The newest row is kept as well, where it is not among them.
  assert expected <= same.kept_share <= expected + len(lengths) / lengths.sum()


def test_dense_reads_everything():
  used = sifting.budget(_run(rules.Dense()), after=0, width=64, itemsize=2)
  assert used.kept_share == used.row_share == used.byte_share == 1
  assert used.mass == pytest.approx(1)


def test_a_run_without_a_counted_row_is_named():
  with pytest.raises(ValueError, match="no step is after 48, got steps up to"):
    sifting.budget(_run(rules.Dense()), after=48, width=64, itemsize=2)
