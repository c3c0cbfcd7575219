"""Rotary position embeddings, with the frequency scaling of Llama 3."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
  """Llama 3.1's stretch of the low frequencies.

  Attributes:
    factor: divisor of frequencies whose wavelength exceeds
      `original_context / low_freq_factor`.
    low_freq_factor: see `factor`.
    high_freq_factor: frequencies with wavelength below
      `original_context / high_freq_factor` stay.
    original_context: context length before stretching, in tokens.
  """

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_context: int

  def divisors(self, inverse: Float[np.ndarray, " pairs"]) -> np.ndarray:
    """Returns the divisor of each inverse frequency, interpolated between."""
    turns = self.original_context * inverse / (2 * math.pi)
    span = self.high_freq_factor - self.low_freq_factor
    keep = np.clip((turns - self.low_freq_factor) / span, 0.0, 1.0)
    return 1.0 / (keep + (1.0 - keep) / self.factor)


@dataclasses.dataclass(frozen=True)
class DivisorScaling:
  """Divisors as a GGUF file stores them (`rope_freqs.weight`).

  Attributes:
    values: one divisor a rotary pair.
  """

  values: tuple[float, ...]

  def divisors(self, inverse: Float[np.ndarray, " pairs"]) -> np.ndarray:
    """Returns the stored divisors."""
    if len(self.values) != len(inverse):
      raise ValueError(
        f"rope divisors: got {len(self.values)}, expected {len(inverse)} "
        "(head_dim / 2)"
      )
    return np.asarray(self.values)


Scaling = Llama3Scaling | DivisorScaling


def inverse_frequencies(
  head_dim: int, theta: float, scaling: Scaling | None = None
) -> Float[np.ndarray, " pairs"]:
  r"""Angular step of each rotary pair, in radians a token.

  $$\omega_i = \theta^{-2i/d} / s_i$$

  Args:
    head_dim: width $d$ of a head.
    theta: base $\theta$.
    scaling: gives the divisors $s_i$; all 1 when omitted.

  Returns:
    `head_dim // 2` float64 frequencies.

  Example:
    >>> inverse_frequencies(4, 10_000.0).tolist()
    [1.0, 0.01]

  References:
    Su et al., RoFormer, arXiv 2104.09864, equation 15.
  """
  inverse = theta ** (-np.arange(0, head_dim, 2) / head_dim)
  return inverse if scaling is None else inverse / scaling.divisors(inverse)


def angles(
  positions: Int[Array, "b s"],
  inverse: Float[np.ndarray, " pairs"] | Float[Array, " pairs"],
) -> tuple[Float[Array, "b s pairs"], Float[Array, "b s pairs"]]:
  """Returns cosine and sine of every position's rotation, in float32."""
  step = jnp.asarray(inverse, jnp.float32)
  phase = positions.astype(jnp.float32)[:, :, None] * step[None, None, :]
  return jnp.cos(phase), jnp.sin(phase)


def rotate(
  x: Float[Array, "b s h d"],
  cosine: Float[Array, "b s pairs"],
  sine: Float[Array, "b s pairs"],
) -> Float[Array, "b s h d"]:
  """Rotates pairs `(i, i + d/2)` of every head by its position's angle.

  Args:
    x: queries or keys.
    cosine: from `angles`.
    sine: from `angles`.

  Returns:
    The rotated heads, in the dtype of `x`.
  """
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cosine, sine = cosine[:, :, None, :], sine[:, :, None, :]
  rotated = (first * cosine - second * sine, second * cosine + first * sine)
  return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
