"""Draws against their definitions in numpy, and their independence."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from research.inference import sampling

_VOCAB = 8
_DRAWS = 4096
_sample = jax.jit(sampling.sample)


def _draw(logits: np.ndarray, choice: sampling.Sampling) -> np.ndarray:
  """Draws one token at each of many positions of one request."""
  row = sampling.rows([choice])
  many = jax.tree.map(lambda x: jnp.repeat(x, _DRAWS, axis=0), row)
  tiled = jnp.tile(jnp.asarray(logits, jnp.float32), (_DRAWS, 1))
  return np.asarray(_sample(tiled, jnp.arange(_DRAWS), many))


def _chances(logits: np.ndarray, choice: sampling.Sampling) -> np.ndarray:
  """The distribution that a request's settings define."""
  shift = [choice.logit_bias.get(token, 0.0) for token in range(len(logits))]
  logits = logits + shift
  chances = np.exp((logits - logits.max()) / choice.temperature)
  unlikely = chances < choice.min_p * chances.max()
  order = np.argsort(-chances)
  if choice.top_k:
    chances[order[choice.top_k :]] = 0
  chances /= chances.sum()
  if choice.top_p < 1:
    enough = np.cumsum(chances[order]) >= choice.top_p
    chances[order[np.argmax(enough) + 1 :]] = 0
  chances[unlikely] = 0
  return chances / chances.sum()


_LOGITS = np.log([0.30, 0.02, 0.25, 0.05, 0.15, 0.13, 0.03, 0.07])


@pytest.mark.parametrize(
  "choice",
  [
    sampling.Sampling(temperature=1.0),
    sampling.Sampling(temperature=0.5, seed=1),
    sampling.Sampling(temperature=2.0, seed=2),
    sampling.Sampling(temperature=1.0, top_k=3),
    sampling.Sampling(temperature=1.0, top_p=0.6),
    sampling.Sampling(temperature=1.5, top_k=5, top_p=0.8, seed=3),
    sampling.Sampling(temperature=1.0, top_k=100),
    sampling.Sampling(temperature=1.0, min_p=0.4),
    sampling.Sampling(temperature=1.5, top_k=5, min_p=0.5, seed=4),
    sampling.Sampling(temperature=1.0, logit_bias={1: 2.0, 0: -1.0}),
    sampling.Sampling(temperature=1.0, logit_bias={0: -100.0}, top_p=0.7),
  ],
  ids=lambda c: (
    f"t{c.temperature}-k{c.top_k}-p{c.top_p}-m{c.min_p}-b{len(c.logit_bias)}"
  ),
)
def test_draws_follow_the_distribution(choice):
  expected = _chances(_LOGITS, choice)
  counts = np.bincount(_draw(_LOGITS, choice), minlength=_VOCAB)
  assert not counts[expected == 0].any()
  live = expected > 0
  test = scipy.stats.chisquare(counts[live], _DRAWS * expected[live])
  assert test.pvalue > 1e-3


@settings(max_examples=20, deadline=None)
@given(
  seed=st.integers(0, 2**16),
  top_k=st.integers(0, _VOCAB),
  top_p=st.floats(0.0625, 1.0, width=32),
  min_p=st.floats(0.0, 1.0, width=32),
)
def test_the_support_is_that_of_numpy(seed, top_k, top_p, min_p):
  logits = np.random.default_rng(seed).normal(size=_VOCAB)
  choice = sampling.Sampling(
    temperature=3.0, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed
  )
  expected = _chances(logits, choice)
  found = np.unique(_draw(logits, choice))
  assert set(found) <= set(np.flatnonzero(expected > 0))
  # A token is missed in all draws with chance below 1e-8 each.
  common = np.flatnonzero(expected > 20 / _DRAWS)
  assert set(common) <= set(found)


def test_temperature_zero_takes_the_most_likely():
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(16, _VOCAB)))
  rows = sampling.rows([sampling.Sampling(seed=i) for i in range(16)])
  found = _sample(logits.astype(jnp.float32), jnp.arange(16), rows)
  np.testing.assert_array_equal(found, logits.argmax(-1))
  assert found.dtype == jnp.int32


def test_greedy_and_drawn_rows_may_share_a_batch():
  logits = jnp.tile(jnp.asarray(_LOGITS, jnp.float32), (2, 1))
  hot = sampling.Sampling(temperature=5.0, top_k=3)
  rows = sampling.rows([sampling.Sampling(), hot])
  found = np.stack(
    [_sample(logits, jnp.full((2,), i), rows) for i in range(64)]
  )
  assert (found[:, 0] == 0).all()
  assert set(found[:, 1]) == {0, 2, 4}


def test_a_bias_counts_at_temperature_zero_and_for_its_row_alone():
  logits = jnp.tile(jnp.asarray(_LOGITS, jnp.float32), (3, 1))
  rows = sampling.rows(
    [
      sampling.Sampling(),
      sampling.Sampling(logit_bias={5: 9.0, 7: 8.0}),
      sampling.Sampling(logit_bias={0: -9.0}),
    ]
  )
  assert _sample(logits, jnp.arange(3), rows).tolist() == [0, 5, 2]


def test_log_probabilities_are_those_of_scipy():
  logits = np.random.default_rng(0).normal(size=(4, _VOCAB)).astype("float32")
  tokens = np.array([3, 0, 7, 7])
  expected = scipy.special.log_softmax(logits, axis=-1)[np.arange(4), tokens]
  found = sampling.log_probabilities(jnp.asarray(logits), jnp.asarray(tokens))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_seed_decides_all_draws():
  hot = sampling.Sampling(temperature=1.0, seed=7)
  np.testing.assert_array_equal(_draw(_LOGITS, hot), _draw(_LOGITS, hot))
  other = _draw(_LOGITS, dataclasses.replace(hot, seed=8))
  agreement = (_draw(_LOGITS, hot) == other).mean()
  by_chance = (np.exp(_LOGITS) ** 2).sum()
  assert agreement == pytest.approx(by_chance, abs=5 * 0.5 / _DRAWS**0.5)


def test_a_draw_does_not_depend_on_neighbours():
  rng = np.random.default_rng(1)
  logits = jnp.asarray(rng.normal(size=(4, _VOCAB)).astype(np.float32))
  choices = [
    sampling.Sampling(temperature=1.0, seed=5),
    sampling.Sampling(),
    sampling.Sampling(temperature=2.0, top_k=2, seed=6),
    sampling.Sampling(temperature=0.7, top_p=0.5, min_p=0.2, seed=5),
  ]
  for step in range(32):
    positions = jnp.arange(4) + step
    together = _sample(logits, positions, sampling.rows(choices))
    alone = [
      _sample(logits[i : i + 1], positions[i : i + 1], sampling.rows([c]))[0]
      for i, c in enumerate(choices)
    ]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"temperature": -1.0}, "temperature: got -1.0, expected >= 0"),
    ({"top_k": -1}, r"top_k: got -1, expected >= 0 \(0 is off\)"),
    ({"top_p": 0.0}, "top_p: got 0.0, expected 0 < top_p <= 1"),
    ({"min_p": 1.5}, "min_p: got 1.5, expected 0 <= min_p <= 1"),
    (
      {"logit_bias": dict.fromkeys(range(301), 1.0)},
      "logit_bias: got 301 tokens, expected at most 300",
    ),
    (
      {"logit_bias": {-1: 1.0}},
      "logit_bias: got token -1, expected numbers of the vocabulary",
    ),
    ({"top_p": 1.5}, "top_p: got 1.5, expected 0 < top_p <= 1"),
  ],
)
def test_settings_out_of_range_are_named(wrong, message):
  with pytest.raises(ValueError, match=message):
    sampling.Sampling(**wrong)
