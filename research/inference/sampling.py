"""Choosing the next token of every row, each row with its own settings."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from research import mesh

#: Tokens whose logits one request may shift.
MOST_BIASES = 300
HostArray = Any  #: numpy where it is made, traced where it is used
_NO_TOKEN = np.iinfo(np.int32).max  # outside every vocabulary: dropped


class SamplingError(ValueError):
  """A sampling setting is out of range; the message says which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """How one request draws its tokens.

  Attributes:
    temperature: divisor of the logits; 0 takes the most likely token.
    top_k: draw among this many most likely tokens; 0 for all.
    top_p: draw among the fewest tokens that hold this probability.
    min_p: of those, draw among tokens at least this many times as likely as the
      most likely one; 0 for all.
    logit_bias: added to the logits of these tokens, also at temperature 0.
    seed: a request's draws depend on it and on their position alone.

  Raises:
    SamplingError: if a setting is out of range.
  """

  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
  seed: int = 0

  def __post_init__(self) -> None:
    if self.temperature < 0:
      raise SamplingError(f"temperature: got {self.temperature}, expected >= 0")
    if self.top_k < 0:
      raise SamplingError(f"top_k: got {self.top_k}, expected >= 0 (0 is off)")
    if not 0 < self.top_p <= 1:
      raise SamplingError(f"top_p: got {self.top_p}, expected 0 < top_p <= 1")
    if not 0 <= self.min_p <= 1:
      raise SamplingError(f"min_p: got {self.min_p}, expected 0 <= min_p <= 1")
    if len(self.logit_bias) > MOST_BIASES:
      raise SamplingError(
        f"logit_bias: got {len(self.logit_bias)} tokens, expected at most "
        f"{MOST_BIASES}"
      )
    if any(not 0 <= token < _NO_TOKEN for token in self.logit_bias):
      raise SamplingError(
        f"logit_bias: got token {min(self.logit_bias)}, expected numbers of "
        "the vocabulary"
      )


class Rows(NamedTuple):
  """The settings of a batch as arrays, a row each.

  Attributes:
    temperature: `[b]`.
    top_k: `[b]`.
    top_p: `[b]`.
    min_p: `[b]`.
    biased: tokens with a bias, `[b, MOST_BIASES]`; the rest is no token.
    bias: their biases.
    key: data of each row's random key, `[b, 2]`.
  """

  temperature: HostArray
  top_k: HostArray
  top_p: HostArray
  min_p: HostArray
  biased: HostArray
  bias: HostArray
  key: HostArray


def rows(settings: Sequence[Sampling]) -> Rows:
  """Stacks the settings of a batch.

  Args:
    settings: one a row.

  Returns:
    Arrays to pass into a jitted step.
  """
  column = lambda name, dtype: np.array(
    [getattr(row, name) for row in settings], dtype
  )
  biased = np.full((len(settings), MOST_BIASES), _NO_TOKEN, np.int32)
  bias = np.zeros(biased.shape, np.float32)
  for row, setting in enumerate(settings):
    count = len(setting.logit_bias)
    biased[row, :count] = list(setting.logit_bias)
    bias[row, :count] = list(setting.logit_bias.values())
  return Rows(
    column("temperature", np.float32),
    column("top_k", np.int32),
    column("top_p", np.float32),
    column("min_p", np.float32),
    biased,
    bias,
    np.stack([_key_data(row.seed) for row in settings]),
  )


@functools.lru_cache(maxsize=4096)
def _key_data(seed: int) -> np.ndarray:
  return np.array(jax.random.key_data(mesh.key(seed, "sampling")))


def sample(
  logits: Float[Array, "b vocab"], positions: Int[Array, " b"], settings: Rows
) -> Int[Array, " b"]:
  r"""Draws a token a row by the Gumbel-max trick.

  $$x = \arg\max_i (\ell_i / T + g_i), \quad g_i \sim \mathrm{Gumbel}$$

  over the tokens that top-k, then top-p, then min-p leave; rows at temperature
  0 take the most likely token. Rows do not influence one another.

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
  best = lambda x: jnp.argmax(x, axis=-1).astype(jnp.int32)

  def draw():
    shifted = _shift(logits, settings)
    drawn = _draw(shifted, positions, settings)
    return jnp.where(settings.temperature > 0, drawn, best(shifted))

  plain = (settings.temperature == 0).all() & (settings.bias == 0).all()
  return jax.lax.cond(plain, lambda: best(logits), draw)


def restrict(
  logits: Float[Array, "b vocab"], masks: UInt32[Array, "b words"]
) -> Float[Array, "b vocab"]:
  """Takes away the tokens that may not be drawn.

  Args:
    logits: unnormalised log-probabilities.
    masks: bit `t % 32` of word `t // 32` is 1 where token `t` may be drawn.

  Returns:
    The logits, minus infinity for the others.
  """
  size = logits.shape[1]

  def take_away():
    shifts = jnp.arange(32, dtype=jnp.uint32)[None, None]
    bits = (masks[:, :, None] >> shifts) & 1
    allowed = bits.reshape(len(bits), -1)[:, :size]
    return jnp.where(allowed == 1, logits, -jnp.inf)

  everything = (masks == jnp.uint32(0xFFFFFFFF)).all()
  return jax.lax.cond(everything, lambda: logits, take_away)


def log_probabilities(
  logits: Float[Array, "b vocab"], tokens: Int[Array, " b"]
) -> Float[Array, " b"]:
  r"""Returns $\ln p$ of a token a row, by the model alone.

  Bias, temperature and truncation do not count.

  Args:
    logits: unnormalised log-probabilities.
    tokens: one a row.
  """
  chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)


def _shift(logits, settings: Rows):
  row = jnp.arange(len(logits))[:, None]
  return logits.at[row, settings.biased].add(settings.bias, mode="drop")


def _draw(logits, positions, settings: Rows):
  scaled = logits / jnp.maximum(settings.temperature, 1e-6)[:, None]
  limited = (settings.top_k > 0) | (settings.top_p < 1) | (settings.min_p > 0)
  kept = jax.lax.cond(
    limited.any(), lambda: _truncate(scaled, settings), lambda: scaled
  )
  keys = jax.vmap(jax.random.fold_in)(
    jax.random.wrap_key_data(settings.key), positions
  )
  noise = jax.vmap(lambda k: jax.random.gumbel(k, logits.shape[1:]))(keys)
  return jnp.argmax(kept + noise, axis=-1).astype(jnp.int32)


def _truncate(scaled, settings: Rows):
  """Masks what is outside of top-k, among those of top-p, and of min-p."""
  size = scaled.shape[-1]
  ordered = jnp.sort(scaled, axis=-1, descending=True)
  count = jnp.where(settings.top_k > 0, settings.top_k, size)[:, None]
  inside = jnp.arange(size)[None, :] < count
  chances = jax.nn.softmax(jnp.where(inside, ordered, -jnp.inf), axis=-1)
  before = jnp.cumsum(chances, axis=-1) - chances
  inside &= (before < settings.top_p[:, None]) | (settings.top_p == 1)[:, None]
  floor = jnp.where(inside, ordered, jnp.inf).min(axis=-1, keepdims=True)
  least = ordered[:, :1] + jnp.log(settings.min_p)[:, None]  # -inf where off
  return jnp.where(scaled >= jnp.maximum(floor, least), scaled, -jnp.inf)
