"""Threshold attention as two Pallas-Triton kernels: exactly the kept set.

The first reads every key, writes the scores, and leaves a maximum and a sum per
block, from which the exact log-sum-exp follows before any value is touched. The
second reads the scores back and loads only the value rows that some query and
head of the group keeps. Sums per block, not per split, make the log-sum-exp,
and so the kept set, the same for every number of splits, bit for bit.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Int

from kernels_pallas.threshold_attention import (
  result,
  triton_blocks,
  triton_launch,
)


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
  config: triton_launch.Config | None = None,
  interpret: bool = False,
) -> result.Attended:
  """Attends with row-masked loads of values.

  Args:
    q: rotated queries, the last tokens of their rows.
    k_pages: pool of keys.
    v_pages: pool of values.
    table: page number of each row's i-th page.
    lengths: tokens of each row, the newest included.
    log_threshold: least log of a kept attention score, or how to find it;
      called between the kernels.
    window_start: the slot from which on each query keeps all.
    scale: what scores are multiplied with.
    sinks: how many first tokens are always kept.
    config: launch shape; by default `triton_launch.config_for` picks.
    interpret: run on the CPU, to check results; says nothing about speed.

  Returns:
    The attended values and what was kept.

  Raises:
    UnsupportedError: a dtype or size that the kernels do not take.
  """
  rows, config = triton_launch.plan(q, v_pages, table, config)
  programs, padded = (q.shape[0], rows.kv_heads), rows.padded
  tokens = table.shape[1] * v_pages.shape[2]
  table, lengths = table.astype(jnp.int32), lengths.astype(jnp.int32)
  count = result.count_seen(lengths, rows.queries)
  seen, like = rows.repeat(count), triton_launch.like
  call = functools.partial(
    triton_launch.call, config=config, programs=programs, interpret=interpret
  )
  per_block = (*programs, tokens // config.block, padded)
  scores, top, total = call(
    functools.partial(_score_kernel, real=rows.count, scale=scale),
    [
      (rows.fold(q), 2),
      (k_pages, triton_launch.POOL),
      (table, 1),
      (lengths, 1),
      (seen, 1),
    ],
    [
      (like((*programs, padded, tokens)), 2),
      (like(per_block), 2),
      (like(per_block), 2),
    ],
  )
  highest, lse = _reduce(top, total, pl.cdiv(lengths, config.block), seen)
  if callable(log_threshold):
    log_threshold = _ask(log_threshold, rows, scores, lse, highest, count)
  threshold = rows.fold(log_threshold.astype(jnp.float32))
  parts = call(
    functools.partial(_value_kernel, real=rows.count, sinks=sinks),
    [
      (scores, 2),
      (result.least_score(threshold, lse, highest), 2),
      (seen, 1),
      (rows.repeat(window_start), 1),
      (v_pages, triton_launch.POOL),
      (table, 1),
      (lengths, 1),
    ],
    triton_blocks.Kept.outputs((*programs, config.splits), padded, q.shape[3]),
  )
  out, mass, kept, loaded = triton_blocks.Kept(*parts).merge(lse)
  return result.Attended(
    out=rows.unfold(out).astype(q.dtype),
    lse=rows.unfold(lse),
    kept=rows.unfold(kept),
    mass=rows.unfold(mass),
    rows=loaded,
  )


def _reduce(top, total, blocks, seen):
  """Merges the blocks' maxima and sums; blocks past the length hold junk."""
  live = jnp.arange(top.shape[2])[None, :] < blocks[:, None]
  live = live[:, None, :, None]
  top = jnp.where(live, top, triton_blocks.MASKED)
  total = jnp.where(live, total, 0.0)
  highest = jnp.max(top, axis=2)
  total = jnp.sum(total * jnp.exp(top - highest[:, :, None]), axis=2)
  some = (seen > 0)[:, None]
  lse = jnp.where(some, highest + jnp.log(total), -jnp.inf)
  return jnp.where(some, highest, -jnp.inf), lse


def _ask(policy, rows: triton_launch.Rows, scores, lse, highest, count):
  """Lets a policy find the thresholds; only then are values touched."""
  scores, lse, highest = (rows.unfold(x) for x in (scores, lse, highest))
  lse = jnp.where(jnp.isfinite(lse), lse, 0.0)
  return policy(result.Scores(scores - lse[..., None], highest - lse, count))


def _score_kernel(
  q_ref,  # [padded, d]
  k_ref,  # [page, d, t]
  table_ref,  # [pages]
  length_ref,  # []
  seen_ref,  # [padded]
  score_ref,  # [padded, tokens]
  top_ref,  # [blocks, padded]
  total_ref,  # [blocks, padded]
  *,
  block: int,
  splits: int,
  real: int,
  scale: float,
):
  """Writes the scores, and the maximum and sum of each block."""
  q, seen = q_ref[...], seen_ref[...]
  written = (jnp.arange(q.shape[0]) < real)[:, None]

  def body(i, carry):
    s, _ = triton_blocks.score(
      i, q, k_ref, table_ref, seen, block=block, scale=scale
    )
    top = jnp.max(s, axis=1)
    plgpu.store(score_ref.at[:, pl.ds(i * block, block)], s, mask=written)
    plgpu.store(top_ref.at[i], top)
    plgpu.store(total_ref.at[i], jnp.sum(jnp.exp(s - top[:, None]), axis=1))
    return carry

  length = plgpu.load(length_ref)
  jax.lax.fori_loop(*triton_blocks.span(length, block, splits), body, 0)


def _value_kernel(
  score_ref,  # [padded, tokens]
  least_ref,  # [padded]
  seen_ref,  # [padded]
  start_ref,  # [padded]
  v_ref,  # [page, t, d]
  table_ref,  # [pages]
  length_ref,  # []
  *out_refs,  # of triton_blocks.Kept
  block: int,
  splits: int,
  real: int,
  sinks: int,
):
  """Adds up the value rows that some query and head of the group keeps."""
  least, seen, start = least_ref[...], seen_ref[...], start_ref[...]
  written = (jnp.arange(least.shape[0]) < real)[:, None]

  def body(i, kept):
    s = plgpu.load(
      score_ref.at[:, pl.ds(i * block, block)],
      mask=written,
      other=triton_blocks.MASKED,
    )
    keep = triton_blocks.choose(
      i, s, least, seen, start, block=block, sinks=sinks
    )
    return triton_blocks.add(i, kept, s, keep, v_ref, table_ref, block=block)

  length = plgpu.load(length_ref)
  kept = triton_blocks.Kept.start(least.shape[0], v_ref.shape[2])
  kept = jax.lax.fori_loop(
    *triton_blocks.span(length, block, splits), body, kept
  )
  kept.write(*out_refs)
