import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.transformer import rope

_WIDTH = 16


def test_frequencies_are_those_of_transformers(recorded):
  config = recorded.model.config
  found = rope.inverse_frequencies(
    config.head_dim, config.rope_theta, config.rope_scaling
  )
  np.testing.assert_allclose(found, recorded.inverse_frequencies, rtol=1e-6)


def test_llama3_scaling_has_three_regimes(load_recorded):
  scaling = load_recorded("llama3").model.config.rope_scaling
  divisors = scaling.divisors(rope.inverse_frequencies(_WIDTH, 10_000.0))
  assert divisors[0] == 1.0
  assert 1.0 < divisors[1] < scaling.factor
  np.testing.assert_allclose(divisors[2:], scaling.factor)


@settings(max_examples=50, deadline=None)
@given(
  factor=st.floats(1.0, 64.0),
  low=st.floats(0.5, 4.0),
  span=st.floats(0.5, 8.0),
  context=st.integers(16, 100_000),
)
def test_llama3_divisors_grow_from_one_to_factor(factor, low, span, context):
  scaling = rope.Llama3Scaling(
    factor=factor,
    low_freq_factor=low,
    high_freq_factor=low + span,
    original_context=context,
  )
  inverse = rope.inverse_frequencies(64, 500_000.0)
  divisors = scaling.divisors(inverse)
  assert np.all(np.diff(divisors) >= -1e-9)
  assert divisors.min() >= 1 - 1e-9
  assert divisors.max() <= factor + 1e-9
  wavelength = 2 * np.pi / inverse
  assert np.allclose(divisors[wavelength > context / low], factor)
  assert np.allclose(divisors[wavelength < context / (low + span)], 1.0)


def test_stored_divisors_are_taken_as_they_are():
  values = tuple(float(i) for i in range(1, 9))
  plain = rope.inverse_frequencies(_WIDTH, 10_000.0)
  scaled = rope.inverse_frequencies(
    _WIDTH, 10_000.0, rope.DivisorScaling(values)
  )
  np.testing.assert_allclose(scaled * np.array(values), plain)


def test_stored_divisors_of_another_width_are_refused():
  with pytest.raises(
    ValueError,
    match=r"rope divisors: got 3, expected 8 \(head_dim / 2\)",
  ):
    rope.inverse_frequencies(
      _WIDTH, 10_000.0, rope.DivisorScaling((1.0, 2.0, 3.0))
    )


def test_scalings_are_hashable():
  one = rope.DivisorScaling((1.0, 2.0))
  assert hash(one) == hash(dataclasses.replace(one))


def _rotate(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
  inverse = rope.inverse_frequencies(x.shape[-1], 10_000.0)
  cosine, sine = rope.angles(jnp.asarray(positions), inverse)
  return np.asarray(rope.rotate(jnp.asarray(x), cosine, sine))


def test_rotation_is_a_complex_product():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 5, 3, _WIDTH)).astype(np.float32)
  positions = rng.integers(0, 200, (2, 5))
  numbers = x[..., :8] + 1j * x[..., 8:]
  inverse = 10_000.0 ** (-np.arange(0, _WIDTH, 2) / _WIDTH)
  turned = numbers * np.exp(1j * positions[..., None, None] * inverse)
  expected = np.concatenate([turned.real, turned.imag], axis=-1)
  np.testing.assert_allclose(_rotate(x, positions), expected, atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(shift=st.integers(0, 500), distance=st.integers(0, 100))
def test_scores_depend_on_distance_alone(shift, distance):
  rng = np.random.default_rng(1)
  q, k = rng.normal(size=(2, 1, 1, 1, _WIDTH)).astype(np.float32)

  def score(q_position: int, k_position: int) -> float:
    rotated_q = _rotate(q, np.array([[q_position]]))
    return float((rotated_q * _rotate(k, np.array([[k_position]]))).sum())

  assert score(shift + distance, shift) == pytest.approx(
    score(distance, 0), abs=2e-3
  )


def test_rotation_keeps_dtype_and_position_zero():
  x = jnp.arange(16, dtype=jnp.bfloat16).reshape(1, 1, 1, 16)
  rotated = rope.rotate(
    x, *rope.angles(jnp.zeros((1, 1), int), rope.inverse_frequencies(16, 1e4))
  )
  assert rotated.dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    rotated.astype(jnp.float32), x.astype(jnp.float32)
  )
