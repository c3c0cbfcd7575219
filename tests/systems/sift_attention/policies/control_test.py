"""The controller holds every head to its budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.systems.sift_attention import selection
from research.systems.sift_attention.policies import control, law

SPREADS = jnp.array([0.3, 1.0, 3.0, 8.0])  # of flat to peaked heads


def _run(policy, steps=600, size=640, seed=0):
  """Kept shares `[steps, b, h]` of synthetic heads that grow by a key a row."""
  state = policy.init(1, 4)

  def step(state, index):
    length = index[None] + 1
    key = jax.random.fold_in(jax.random.key(seed), index)
    scores = SPREADS[None, :, None] * jax.random.normal(key, (1, 4, size))
    live = jnp.arange(size) <= index
    total = jax.nn.logsumexp(scores, axis=-1, where=live, keepdims=True)
    chosen, state = selection.select(policy, state, scores - total, length)
    return state, (chosen.keep.sum(-1) / length[:, None], chosen.log_threshold)

  _, (shares, thresholds) = jax.lax.scan(step, state, jnp.arange(steps))
  return np.asarray(shares), np.asarray(thresholds)


@pytest.mark.parametrize("target", [0.25, 0.125])
def test_reaches_its_target_within_a_point_on_every_head(target):
  # The level that the law fits is far from the target on purpose.
  inner = law.fixed_beta(level=0.5, warmup=32, skip=16)
  shares, _ = _run(control.Controlled(inner, target))
  np.testing.assert_allclose(shares[-300:].mean(0), target, atol=0.01)
  open_loop, _ = _run(inner)
  assert abs(open_loop[-300:].mean(0) - target).max() > 0.05


def test_does_not_wind_up_during_the_warm_up():
  inner = law.fixed_beta(level=0.75, warmup=32, skip=16)
  policy = control.Controlled(inner, 0.25)
  shares, thresholds = _run(policy, steps=33, size=40)
  open_shares, open_thresholds = _run(inner, steps=33, size=40)
  assert (shares[:32] == 1).all()
  np.testing.assert_array_equal(thresholds, open_thresholds)
  np.testing.assert_array_equal(shares, open_shares)


def test_reads_what_the_inner_policy_reads():
  policy = control.Controlled(law.PowerLaw(), 0.25)
  assert policy.reads == law.PowerLaw.reads
  assert all(x.shape == (2, 3) for x in jax.tree.leaves(policy.init(2, 3)))


def test_bad_target_is_named():
  with pytest.raises(ValueError, match="between 0 and 1, got 1.0"):
    control.Controlled(law.PowerLaw(), 1.0)
