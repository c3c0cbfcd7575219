"""What implementations of threshold attention share: terms and results."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Scores(NamedTuple):
  r"""What is known of every query before any value is read.

  Attributes:
    log_scores: `[b, s, h, t]` float32, $s_j - \mathrm{LSE}$; slots that a query
      does not see may hold anything.
    log_max: `[b, s, h]` float32, the largest of those that it sees.
    seen: `[b, s]` int32, tokens that each query sees, itself included.
  """

  log_scores: jax.Array
  log_max: jax.Array
  seen: jax.Array


Threshold = jax.Array | Callable[[Scores], jax.Array]


class Attended(NamedTuple):
  """One decode step of threshold attention.

  Attributes:
    out: `[b, s, h, d]`, renormalised over the kept tokens, in the dtype of `q`;
      zeros for a query that sees nothing. `out * mass` is the result without
      renormalisation.
    lse: `[b, s, h]` float32, log-sum-exp of *all* scores, in nats.
    kept: `[b, s, h]` int32, tokens that each query head kept.
    mass: `[b, s, h]` float32, softmax mass of the kept tokens, in [0, 1].
    rows: `[b, k]` int32, value rows that were needed: tokens that at least one
      query and query head of the group kept.
  """

  out: jax.Array
  lse: jax.Array
  kept: jax.Array
  mass: jax.Array
  rows: jax.Array


def count_seen(
  lengths: Int[Array, " b"], queries: int
) -> Int[Array, "b queries"]:
  """How many tokens each of a row's last queries sees; 0 before its first."""
  back = jnp.arange(queries - 1, -1, -1, dtype=lengths.dtype)
  return jnp.maximum(lengths[:, None] - back[None, :], 0)


def least_score(
  log_threshold: Float[Array, "*rows"],
  lse: Float[Array, "*rows"],
  highest: Float[Array, "*rows"],
) -> Float[Array, "*rows"]:
  r"""The score that a token must reach to be kept.

  A finite threshold comes down to the highest score, so that it always keeps
  something; $+\infty$ keeps no token for its score.

  Args:
    log_threshold: $\log\eta$, relative to the log-sum-exp.
    lse: log-sum-exp of the scores.
    highest: the highest score.

  Returns:
    $\min(\mathrm{LSE} + \log\eta, \max_j s_j)$, or $+\infty$.
  """
  least = jnp.minimum(lse + log_threshold, highest)
  return jnp.where(log_threshold == jnp.inf, jnp.inf, least)
