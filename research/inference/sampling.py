"""Choosing the next token of every row, each row with its own settings."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from research import mesh


class SamplingError(ValueError):
  """A sampling setting is out of range; the message says which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """How one request draws its tokens.

  Attributes:
    temperature: divisor of the logits; 0 takes the most likely token.
    top_k: draw among this many most likely tokens; 0 for all.
    top_p: draw among the fewest tokens that hold this probability.
    seed: a request's draws depend on it and on their position alone.

  Raises:
    SamplingError: if a setting is out of range.
  """

  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  seed: int = 0

  def __post_init__(self) -> None:
    if self.temperature < 0:
      raise SamplingError(f"temperature: got {self.temperature}, expected >= 0")
    if self.top_k < 0:
      raise SamplingError(f"top_k: got {self.top_k}, expected >= 0 (0 is off)")
    if not 0 < self.top_p <= 1:
      raise SamplingError(f"top_p: got {self.top_p}, expected 0 < top_p <= 1")


class Rows(NamedTuple):
  """The settings of a batch as arrays, a row each."""

  temperature: jax.Array
  top_k: jax.Array
  top_p: jax.Array
  key: jax.Array


def rows(settings: Sequence[Sampling]) -> Rows:
  """Stacks the settings of a batch.

  Args:
    settings: one a row.

  Returns:
    Arrays to pass into a jitted step.
  """
  column = lambda name, dtype: jnp.asarray(
    [getattr(row, name) for row in settings], dtype
  )
  return Rows(
    column("temperature", jnp.float32),
    column("top_k", jnp.int32),
    column("top_p", jnp.float32),
    jnp.stack([mesh.key(row.seed, "sampling") for row in settings]),
  )


def sample(
  logits: Float[Array, "b vocab"], positions: Int[Array, " b"], settings: Rows
) -> Int[Array, " b"]:
  r"""Draws a token a row by the Gumbel-max trick.

  $$x = \arg\max_i (\ell_i / T + g_i), \quad g_i \sim \mathrm{Gumbel}$$

  over the tokens that top-k and then top-p leave; rows at temperature 0 take
  the most likely token. Rows do not influence one another.

  Args:
    logits: unnormalised log-probabilities.
    positions: of the tokens to draw in their rows; the draw's index.
    settings: from `rows`.

  Returns:
    The tokens.

  Example:
    >>> greedy = rows([Sampling()])
    >>> sample(jnp.array([[0.0, 2.0, 1.0]]), jnp.array([0]), greedy).tolist()
    [1]
  """
  greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  draw = lambda: jnp.where(
    settings.temperature > 0, _draw(logits, positions, settings), greedy
  )
  return jax.lax.cond((settings.temperature > 0).any(), draw, lambda: greedy)


def _draw(logits, positions, settings: Rows):
  scaled = logits / jnp.maximum(settings.temperature, 1e-6)[:, None]
  limited = (settings.top_k > 0) | (settings.top_p < 1)
  kept = jax.lax.cond(
    limited.any(), lambda: _truncate(scaled, settings), lambda: scaled
  )
  keys = jax.vmap(jax.random.fold_in)(settings.key, positions)
  noise = jax.vmap(lambda k: jax.random.gumbel(k, logits.shape[1:]))(keys)
  return jnp.argmax(kept + noise, axis=-1).astype(jnp.int32)


def _truncate(scaled, settings: Rows):
  """Masks what is outside of top-k and, among those, of top-p."""
  size = scaled.shape[-1]
  ordered = jnp.sort(scaled, axis=-1, descending=True)
  count = jnp.where(settings.top_k > 0, settings.top_k, size)[:, None]
  inside = jnp.arange(size)[None, :] < count
  chances = jax.nn.softmax(jnp.where(inside, ordered, -jnp.inf), axis=-1)
  before = jnp.cumsum(chances, axis=-1) - chances
  inside &= (before < settings.top_p[:, None]) | (settings.top_p == 1)[:, None]
  floor = jnp.where(inside, ordered, jnp.inf).min(axis=-1, keepdims=True)
  return jnp.where(scaled >= floor, scaled, -jnp.inf)
