"""Threshold attention in plain `jnp`: what the others must agree with."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kernels_pallas.threshold_attention import result

_EXACT = jax.lax.Precision.HIGHEST


def attend(
  q: Float[Array, "b s h d"],
  k_pages: Float[Array, "page k d t"],
  v_pages: Float[Array, "page k t d"],
  table: Int[Array, "b pages"],
  lengths: Int[Array, " b"],
  log_threshold: result.Threshold,
  window_start: Int[Array, "b s"],
  *,
  scale: float,
  sinks: int,
) -> result.Attended:
  """Attends in float32; gathers the context and reads all of it.

  Args:
    q: rotated queries, the last tokens of their rows.
    k_pages: pool of keys.
    v_pages: pool of values.
    table: page number of each row's i-th page.
    lengths: tokens of each row, the newest included.
    log_threshold: least log of a kept attention score, or how to find it.
    window_start: the slot from which on each query keeps all.
    scale: what scores are multiplied with.
    sinks: how many first tokens are always kept.

  Returns:
    The attended values and what was kept.
  """
  batch, queries, heads, width = q.shape
  kv_heads, size = v_pages.shape[1:3]
  keys = k_pages[table].transpose(0, 2, 3, 1, 4)  # b k d pages t
  keys = keys.reshape(batch, kv_heads, width, -1).astype(jnp.float32)
  values = v_pages[table].transpose(0, 2, 1, 3, 4)  # b k pages t d
  values = values.reshape(batch, kv_heads, -1, width).astype(jnp.float32)

  grouped = (batch, queries, kv_heads, heads // kv_heads)
  rows = q.reshape(*grouped, width).astype(jnp.float32)
  scores = jnp.einsum("bskgd,bkdt->bskgt", rows, keys, precision=_EXACT)
  scores = scores.reshape(batch, queries, heads, -1) * scale
  position = jnp.arange(table.shape[1] * size)[None, None, None]
  count = result.count_seen(lengths, queries)
  seen = position < count[..., None, None]
  scores = jnp.where(seen, scores, -jnp.inf)
  lse = jax.nn.logsumexp(scores, axis=-1)
  highest = jnp.max(scores, axis=-1)
  if callable(log_threshold):
    live = jnp.where(jnp.isfinite(lse), lse, 0.0)
    log_threshold = log_threshold(
      result.Scores(scores - live[..., None], highest - live, count)
    )
  log_threshold = log_threshold.astype(jnp.float32)
  least = result.least_score(log_threshold, lse, highest)
  forced = (position < sinks) | (position >= window_start[..., None, None])
  keep = seen & (forced | (scores >= least[..., None]))

  # Relative to the highest kept score: all of them may lie far below the LSE.
  kept = jnp.where(keep, scores, -jnp.inf)
  top = jnp.max(kept, axis=-1)
  top = jnp.where(jnp.isfinite(top), top, 0.0)
  weights = jnp.exp(kept - top[..., None])
  total = jnp.sum(weights, axis=-1)
  live = jnp.where(jnp.isfinite(lse), lse, 0.0)
  loaded = jnp.any(keep.reshape(*grouped, -1), axis=(1, 3))
  values = jnp.where(loaded[..., None], values, 0.0)
  out = jnp.einsum(
    "bskgt,bktd->bskgd",
    weights.reshape(*grouped, -1),
    values,
    precision=_EXACT,
  )
  out = out.reshape(q.shape) / jnp.where(total > 0, total, 1.0)[..., None]
  return result.Attended(
    out=out.astype(q.dtype),
    lse=lse,
    kept=jnp.sum(keep, axis=-1, dtype=jnp.int32),
    mass=jnp.minimum(total * jnp.exp(top - live), 1.0),
    rows=jnp.sum(loaded, axis=-1, dtype=jnp.int32),
  )
