"""Keyed draws are JAX's threefry, on host and device."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry2x32_p

from research.systems.epicast import draws


def _counters():
  rng = np.random.default_rng(0)
  agent = rng.integers(0, 1 << 32, 1000, np.uint32)
  step = rng.integers(0, 1 << 32, 1000, np.uint32)
  agent[:2], step[:2] = (0, 0xFFFFFFFF), (0xFFFFFFFF, 0)
  return agent, step


def test_words_are_those_of_jax_bit_for_bit():
  agent, step = _counters()
  for key in (draws.key(3, "infection", 7), np.full(2, 0xFFFFFFFF, np.uint32)):
    want = threefry2x32_p.bind(key[0], key[1], agent, step)
    on_device = jax.jit(draws.words)(
      jnp.asarray(key), jnp.asarray(agent), jnp.asarray(step)
    )
    for expected, host, device in zip(
      want, draws.words(key, agent, step), on_device, strict=True
    ):
      np.testing.assert_array_equal(host, expected)
      np.testing.assert_array_equal(device, expected)


def test_the_words_of_one_step_are_jaxs_own_bits():
  """`jax.random.bits` counts places in its second word and joins the two."""
  count = np.arange(100, dtype=np.uint32)
  first, second = draws.words(
    draws.key(0, "infection"), np.zeros_like(count), count
  )
  key = jax.random.wrap_key_data(jnp.asarray(draws.key(0, "infection")))
  np.testing.assert_array_equal(first ^ second, jax.random.bits(key, (100,)))


def test_seed_decision_and_replicate_give_other_keys():
  keys = {
    draws.key(seed, decision, replicate).tobytes()
    for seed in (0, 1)
    for decision in ("infection", "course")
    for replicate in (0, 1)
  }
  assert len(keys) == 8


def test_thresholds_and_integers_have_their_chances():
  agent = np.arange(200_000, dtype=np.uint32)
  bits, other = draws.words(draws.key(0, "test"), agent, np.zeros_like(agent))
  sigma = np.sqrt(0.3 * 0.7 / len(agent))
  assert abs((bits < draws.threshold(0.3)).mean() - 0.3) < 4 * sigma
  assert abs((other < draws.threshold(0.3)).mean() - 0.3) < 4 * sigma
  counts = np.bincount(draws.below(other, 10), minlength=10)
  chi2 = ((counts - 20_000) ** 2 / 20_000).sum()
  assert chi2 < 27.9  # 99.9 % of 9 degrees of freedom
