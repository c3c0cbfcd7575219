"""Quantiles of attention scores, found by counting instead of sorting."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

_HALVINGS = 26  # narrows a range of 60 nats to 1e-6


def count_quantile(
  values: Float[Array, "*rows n"],
  live: Bool[Array, "*rows n"],
  level: float,
) -> Float[Array, "*rows"]:
  r"""The smallest value with at least a share `level` of the live ones below.

  $$\theta = \min \{ v : |\{j : x_j \le v\}| \ge \lceil \tau n \rceil \}$$

  Bisection on the value; each halving is one compare and one count, which costs
  a seventh of a sort on a CPU and needs no synchronisation on a GPU.

  Args:
    values: numbers to rank, the last axis against itself.
    live: which of them count; at least one in every row.
    level: $\tau$, in (0, 1].

  Returns:
    The quantile of each row, at most 1e-6 of the row's range above the exact
    order statistic.

  Example:
    >>> x = jnp.array([3.0, 1.0, 2.0, 9.0])
    >>> round(float(count_quantile(x, jnp.ones(4, bool), 0.75)), 4)
    3.0
  """
  # In float32, 0.9375 * n is exact but 0.7 * 10 is 7.0000001: allow for it.
  total = live.sum(-1)
  target = jnp.ceil(level * total.astype(jnp.float32) * (1 - 1e-6))
  low = jnp.where(live, values, jnp.inf).min(-1)
  high = jnp.where(live, values, -jnp.inf).max(-1)
  low = low - 1e-6 * (1 + jnp.abs(low))  # nothing counts at the lower end

  def halve(_, ends):
    low, high = ends
    middle = 0.5 * (low + high)
    below = (live & (values <= middle[..., None])).sum(-1)
    enough = below >= target
    return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

  return jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))[1]


def log_score_quantiles(
  q: Float[Array, "b s h d"],
  k: Float[Array, "b s k d"],
  *,
  steps: Int[Array | np.ndarray, " rows"],
  levels: tuple[float, ...],
) -> Float[Array, "b h levels rows"]:
  r"""$\log \theta_{S,\tau}$ of chosen generation steps, for every head.

  Step $S$ is the query at position $S - 1$, which sees $S$ keys. Its scores are
  $a_S = \mathrm{softmax}(q_S K_{:S}^\top / \sqrt d)$; since log is monotone,
  quantiles are taken of $\log a_S$, where nothing underflows. Only the chosen
  rows of scores are ever made.

  Args:
    q: rotated queries of a whole sequence.
    k: rotated keys of the same sequence.
    steps: the steps $S$, from 1 to `s`.
    levels: the quantile levels $\tau$.

  Returns:
    Natural logarithms of the quantiles.

  References:
    SiftAttention, arXiv 2506.05300, Algorithm 1.
  """
  batch, length, heads, width = q.shape
  kv_heads = k.shape[2]
  rows = q[:, steps - 1].astype(jnp.float32) / math.sqrt(width)
  rows = rows.reshape(batch, len(steps), kv_heads, -1, width)
  scores = jnp.einsum("brkgd,btkd->bkgrt", rows, k.astype(jnp.float32))
  scores = scores.reshape(batch, heads, len(steps), length)
  seen = jnp.arange(length)[None, :] < jnp.asarray(steps)[:, None]
  live = jnp.broadcast_to(seen[None, None], scores.shape)
  total = jax.nn.logsumexp(scores, axis=-1, where=live)
  found = [count_quantile(scores, live, level) - total for level in levels]
  return jnp.stack(found, axis=2)
