"""Threshold attention on a CPU: all keys are read, and the value rows kept.

XLA itself cannot leave rows of a product out: picking their numbers and
gathering them costs it what reading all of them costs. Two calls of compiled
C++ do it in one loop each (`native.cc`). Without a compiler, and on other
backends, a loop over pages in `jnp` leaves out pages that nobody needs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Float, Int

from kernels_pallas.threshold_attention import native, result

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
  """Attends; time follows the value rows that are kept.

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
  pages = functools.partial(
    attend_pages, log_threshold=log_threshold, scale=scale, sinks=sinks
  )
  table, lengths, window_start = (
    x.astype(jnp.int32) for x in (table, lengths, window_start)
  )
  args = (q, k_pages, v_pages, table, lengths)
  suits = q.dtype in (jnp.float32, jnp.bfloat16) and q.shape[-1] % 4 == 0
  if not suits:
    logging.log_first_n(
      logging.INFO,
      "threshold_attention reads whole pages: got %s of width %d, expected "
      "float32 or bfloat16 and a multiple of 4",
      1,
      *(q.dtype, q.shape[-1]),
    )
  if not suits or native.targets() is None:
    return pages(*args, window_start=window_start)
  rows = functools.partial(
    attend_rows, log_threshold=log_threshold, scale=scale, sinks=sinks
  )
  return jax.lax.platform_dependent(
    *args,
    window_start,
    cpu=lambda *args: rows(*args[:-1], window_start=args[-1]),
    default=lambda *args: pages(*args[:-1], window_start=args[-1]),
  )


def attend_rows(
  q: Float[Array, "b s h d"],
  k_pages: Float[Array, "page k d t"],
  v_pages: Float[Array, "page k t d"],
  table: Int[Array, "b pages"],
  lengths: Int[Array, " b"],
  *,
  log_threshold: result.Threshold,
  window_start: Int[Array, "b s"],
  scale: float,
  sinks: int,
) -> result.Attended:
  """Attends by `native.cc`, a CPU's; the arguments are those of `attend`."""
  batch, queries, heads, width = q.shape
  kv_heads, size = v_pages.shape[1:3]
  # What the other ways clamp, C++ would read and write past the end.
  lengths = jnp.minimum(lengths, table.shape[1] * size)
  names = native.targets()
  assert names is not None  # `attend` looks first
  shape = (batch, queries, heads)
  of = jax.ShapeDtypeStruct
  row = of(shape, jnp.float32)
  scores, highest, lse = jax.ffi.ffi_call(
    names[f"scores_{q.dtype}"],
    (of((*shape, table.shape[1] * size), jnp.float32), row, row),
    vmap_method="sequential",
  )(q, k_pages, table, lengths, scale=np.float32(scale))
  least, live = _least(log_threshold, scores, highest, lse, lengths)
  out, kept, mass, rows = jax.ffi.ffi_call(
    names[f"values_{q.dtype}"],
    (
      of(q.shape, jnp.float32),
      of(shape, jnp.int32),
      row,
      of((batch, kv_heads), jnp.int32),
    ),
    vmap_method="sequential",
  )(
    *(scores, v_pages, table, lengths, least, live),
    window_start,
    sinks=np.int64(sinks),
  )
  mass = jnp.minimum(mass, 1.0)
  return result.Attended(out.astype(q.dtype), lse, kept, mass, rows)


def attend_pages(
  q: Float[Array, "b s h d"],
  k_pages: Float[Array, "page k d t"],
  v_pages: Float[Array, "page k t d"],
  table: Int[Array, "b pages"],
  lengths: Int[Array, " b"],
  *,
  log_threshold: result.Threshold,
  window_start: Int[Array, "b s"],
  scale: float,
  sinks: int,
) -> result.Attended:
  """Attends page by page; the arguments are those of `attend`.

  Loops end with the longest row. A page of values is read where some row needs
  some of it, so rows by position skip most pages and rows by score skip few.
  """
  batch, queries, heads, width = q.shape
  kv_heads, size = v_pages.shape[1:3]
  grouped = (batch, queries, kv_heads, heads // kv_heads)
  count = result.count_seen(lengths, queries)
  live_pages = jnp.minimum(-(-lengths.max() // size), table.shape[1])
  split = lambda x: x.reshape(*grouped, -1).swapaxes(1, 2)  # b k s g ...
  join = lambda x: x.swapaxes(1, 2).reshape(batch, queries, heads, -1)
  product = functools.partial(
    jnp.einsum, preferred_element_type=jnp.float32, precision=_EXACT
  )

  def score(index, carry):
    scores, top, total = carry
    page = k_pages[table[:, index]]
    found = join(product("bksgd,bkdt->bksgt", split(q), page) * scale)
    position = index * size + jnp.arange(size)
    seen = position[None, None, None] < count[..., None, None]
    found = jnp.where(seen, found, -jnp.inf)
    higher = jnp.maximum(top, found.max(axis=-1))
    base = jnp.where(jnp.isfinite(higher), higher, 0.0)  # idle rows see nothing
    total = total * jnp.exp(top - base)
    total += jnp.exp(found - base[..., None]).sum(axis=-1)
    start = (0, 0, 0, index * size)
    return jax.lax.dynamic_update_slice(scores, found, start), higher, total

  none = jnp.zeros(q.shape[:3], jnp.float32)
  scores = jnp.zeros((*q.shape[:3], table.shape[1] * size), jnp.float32)
  scores, highest, total = jax.lax.fori_loop(
    0, live_pages, score, (scores, none - jnp.inf, none)
  )
  lse = highest + jnp.log(total)
  least, live = _least(log_threshold, scores, highest, lse, lengths)

  def choose(part, first):
    position = (first + jnp.arange(part.shape[3]))[None, None, None]
    seen = position < count[..., None, None]
    forced = (position < sinks) | (position >= window_start[..., None, None])
    return seen & forced, seen & (forced | (part >= least[..., None]))

  # Weights are relative to the log-sum-exp. Where scores keep nothing, those
  # kept by position may all lie far below it: to the highest of them.
  forced, _ = choose(scores, 0)
  top = jnp.where(forced, scores, -jnp.inf).max(axis=-1)
  base = jnp.where(least < jnp.inf, live, jnp.where(top > -jnp.inf, top, 0.0))

  def add(index, carry):
    out, kept, total, rows = carry
    part = jax.lax.dynamic_slice_in_dim(scores, index * size, size, axis=3)
    _, keep = choose(part, index * size)
    weights = jnp.where(keep, jnp.exp(part - base[..., None]), 0.0)
    loaded = jnp.any(split(keep), axis=(2, 3))

    def read(out):
      values = jnp.where(loaded[..., None], v_pages[table[:, index]], 0)
      values = values.astype(jnp.float32)  # as the reference: exact weights
      return out + join(product("bksgt,bktd->bksgd", split(weights), values))

    return (
      jax.lax.cond(loaded.any(), read, lambda out: out, out),
      kept + jnp.sum(keep, axis=-1, dtype=jnp.int32),
      total + jnp.sum(weights, axis=-1),
      rows + jnp.sum(loaded, axis=-1, dtype=jnp.int32),
    )

  start = (
    jnp.zeros(q.shape, jnp.float32),
    jnp.zeros(q.shape[:3], jnp.int32),
    none,
    jnp.zeros((batch, kv_heads), jnp.int32),
  )
  out, kept, total, rows = jax.lax.fori_loop(0, live_pages, add, start)
  out = out / jnp.where(total > 0, total, 1.0)[..., None]
  mass = jnp.minimum(total * jnp.exp(base - live), 1.0)
  return result.Attended(out.astype(q.dtype), lse, kept, mass, rows)


def _least(
  log_threshold: result.Threshold,
  scores: Float[Array, "b s h n"],
  highest: Float[Array, "b s h"],
  lse: Float[Array, "b s h"],
  lengths: Int[Array, " b"],
) -> tuple[Float[Array, "b s h"], Float[Array, "b s h"]]:
  """Returns the least score kept, and the log-sum-exp with 0 for idle rows."""
  live = jnp.where(jnp.isfinite(lse), lse, 0.0)
  if callable(log_threshold):
    count = result.count_seen(lengths, scores.shape[1])
    position = jnp.arange(scores.shape[-1])[None, None, None]
    seen = position < count[..., None, None]
    relative = jnp.where(seen, scores - live[..., None], -jnp.inf)
    log_threshold = log_threshold(
      result.Scores(relative, highest - live, count)
    )
  log_threshold = log_threshold.astype(jnp.float32)
  return result.least_score(log_threshold, lse, highest), live
