"""Threshold attention in plain `jnp`: the oracle, and the fall-back."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kernels_pallas.threshold_attention import result

_EXACT = jax.lax.Precision.HIGHEST


def attend(
  q: Float[Array, "b h d"],
  k_pages: Float[Array, "page k d t"],
  v_pages: Float[Array, "page k t d"],
  table: Int[Array, "b pages"],
  lengths: Int[Array, " b"],
  log_threshold: Float[Array, "b h"],
  *,
  scale: float,
) -> result.Attended:
  """Attends in float32; gathers the context and reads all of it.

  Args:
    q: one rotated query a row.
    k_pages: pool of keys.
    v_pages: pool of values.
    table: page number of each row's i-th page.
    lengths: tokens of each row, the newest included.
    log_threshold: least log of a kept attention score, in nats.
    scale: what scores are multiplied with.

  Returns:
    The attended values and what was kept.
  """
  batch, heads, width = q.shape
  kv_heads, size = v_pages.shape[1:3]
  grouped = (batch, kv_heads, heads // kv_heads)
  keys = k_pages[table].transpose(0, 2, 3, 1, 4)  # b k d pages t
  keys = keys.reshape(batch, kv_heads, width, -1).astype(jnp.float32)
  values = v_pages[table].transpose(0, 2, 1, 3, 4)  # b k pages t d
  values = values.reshape(batch, kv_heads, -1, width).astype(jnp.float32)

  queries = q.reshape(*grouped, width).astype(jnp.float32)
  scores = jnp.matmul(queries, keys, precision=_EXACT) * scale
  position = jnp.arange(table.shape[1] * size)[None, :]
  seen = (position < lengths[:, None])[:, None, None]
  newest = (position == lengths[:, None] - 1)[:, None, None]
  scores = jnp.where(seen, scores, -jnp.inf)
  lse = jax.nn.logsumexp(scores, axis=-1)
  log_threshold = log_threshold.reshape(grouped).astype(jnp.float32)
  least = jnp.minimum(lse + log_threshold, jnp.max(scores, axis=-1))
  keep = seen & (newest | (scores >= least[..., None]))

  weights = jnp.where(keep, jnp.exp(scores - lse[..., None]), 0.0)
  mass = jnp.sum(weights, axis=-1)
  loaded = jnp.any(keep, axis=2)
  values = jnp.where(loaded[..., None], values, 0.0)
  out = jnp.matmul(weights, values, precision=_EXACT)
  out = out / jnp.where(mass > 0, mass, 1.0)[..., None]
  return result.Attended(
    out=out.reshape(q.shape).astype(q.dtype),
    lse=lse.reshape(batch, heads),
    kept=jnp.sum(keep, axis=-1, dtype=jnp.int32).reshape(batch, heads),
    mass=mass.reshape(batch, heads),
    rows=jnp.sum(loaded, axis=-1, dtype=jnp.int32),
  )
