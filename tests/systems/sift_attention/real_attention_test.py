"""What holds of real attention: fits after long prompts, and certificates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data import artifacts, texts
from research.systems.sift_attention import quantiles, selection, sifting
from research.systems.sift_attention.policies import base, certified, law, rules
from research.transformer import attention

_PROMPT = 1024
_FAR = np.array([1100, 1200, 1350, 1500, 1650, 1800, 1920, 2048])


class _Record:
  """Attends exactly; a layer's state is its queries, keys and values."""

  def __call__(self, layer, q, k, v, positions, state):
    del layer, positions, state
    return attention.attend_causal(q, k, v), (q, k, v)


@pytest.fixture(scope="module")
def taken(smollm2_start, smollm2_words):
  """Rotated q, k and v of SmolLM2's second layer over 2048 tokens."""
  try:
    text = texts.load("shakespeare/hamlet", progress=False)
  except artifacts.ArtifactError as error:
    pytest.skip(str(error))
  run = jax.jit(
    lambda state, tokens: (
      smollm2_start.bind(state)(tokens, attention=_Record()).states
    )
  )
  tokens = smollm2_words.encode(text)[4000:6048]
  return run(smollm2_start.state, jnp.asarray([tokens]))[-1]


@pytest.fixture(scope="module")
def rows(taken):
  """Log scores `[rows, h, t]` of the queries at the far steps."""
  q, k, _ = taken
  groups = q[0, _FAR - 1].reshape(len(_FAR), 3, 3, 64) / 8
  scores = jnp.einsum("rkgd,tkd->rkgt", groups, k[0]).reshape(len(_FAR), 9, -1)
  live = base.live_keys(jnp.asarray(_FAR), scores.shape[-1])[:, None]
  return jax.nn.log_softmax(jnp.where(live, scores, -jnp.inf))


def _literal(taken, **bounds):
  """A law fitted on the first 32 steps after the prompt."""
  policy = law.PowerLaw(warmup=32, **bounds)
  steps = np.arange(_PROMPT + 1, _PROMPT + 33)
  theta = quantiles.log_score_quantiles(
    *taken[:2], steps=steps, levels=(policy.level,)
  )[:, :, 0]
  lengths = jnp.array([_PROMPT + 32])
  state = policy.observe(policy.init(1, 9), theta, jnp.asarray(steps), lengths)
  return policy, state


def _judge(taken, rows, policy, state):
  """The 90th percentile of the threshold's error, and each head's share."""
  log_alpha, beta = (np.asarray(x)[0] for x in policy.fitted(state))
  found = log_alpha - beta * np.log(_FAR)[:, None]
  true = quantiles.log_score_quantiles(
    *taken[:2], steps=_FAR, levels=(policy.level,)
  )[0, :, 0].T
  kept = (np.asarray(rows) >= found[..., None]).sum(-1) / _FAR[:, None]
  return np.quantile(abs(found - true), 0.9), kept.mean(0)


def test_trap_05_a_long_prompt_does_not_break_the_fit(taken, rows):
  """Fitted on what follows 1024 tokens, beta explodes; the prompt mends it."""
  policy = law.PowerLaw(warmup=64)
  q, k, _ = taken
  # Padded to 2048, of which 1024 are the prompt.
  state = jax.jit(policy.read_prompt, static_argnums=4)(
    policy.init(1, 9), q, k, jnp.array([_PROMPT]), 64
  )
  assert (state.seen == 64).all()
  error, share = _judge(taken, rows, policy, state)
  assert error < 2.0
  assert 0.05 < share.min() < share.max() < 0.6

  error, share = _judge(taken, rows, *_literal(taken))
  assert error > 3.0
  assert share.min() < 0.05 or share.max() > 0.8

  clamped = _literal(taken, least_beta=0.5, most_beta=2.0)
  error, share = _judge(taken, rows, *clamped)
  assert error < 2.0
  assert 0.05 < share.min() < share.max() < 0.6


def test_rows_past_a_prompt_s_end_are_not_learnt_from(taken):
  """A prompt of 33 tokens in a bucket of 64 learns what it would alone."""
  policy = law.PowerLaw(warmup=64)
  q, k, _ = taken
  read = lambda q, k: policy.read_prompt(
    policy.init(1, 9), q, k, jnp.array([33]), 64
  )
  alone = read(q[:, :33], k[:, :33])
  padded = read(q[:, :64].at[:, 33:].set(jnp.nan), k[:, :64])
  assert (alone.seen == 33 - 15).all()  # from the 16th token on
  for a, b in zip(jax.tree.leaves(padded), jax.tree.leaves(alone), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_a_certificate_bounds_the_error(taken, rows):
  """No head is off by more than the least mass allows."""
  v = jnp.broadcast_to(taken[2], (len(_FAR), *taken[2].shape[1:]))
  lengths = jnp.asarray(_FAR)
  v = jnp.where(base.live_keys(lengths, 2048)[..., None, None], v, 0)
  dense = sifting.sift(rows, jnp.isfinite(rows), v)

  def error(policy):
    keep = selection.select(policy, (), rows, lengths)[0].keep
    mass = sifting.measure(rows, keep, lengths, 3).mass
    found = jnp.linalg.norm(sifting.sift(rows, keep, v) - dense, axis=-1)
    assert (found <= sifting.error_bound(mass, v) + 1e-5).all()
    return mass, found, keep.mean()

  rule = rules.RelativeToMax(32.0)
  mass, plain, share = error(rule)
  assert (mass < 0.9).any()
  held, certain, more = error(certified.Certified(rule, 0.9))
  assert (held >= 0.9).all()
  allowed = sifting.error_bound(jnp.full_like(mass, 0.9), v)
  assert (certain <= allowed).all()
  assert (certain[mass < 0.9] < 1e-5).all()
  assert (plain[mass < 0.9] > 1e-3).all()
  assert share < more < 1
