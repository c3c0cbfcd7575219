r"""Threshold attention as one Pallas-Triton kernel: a superset of the kept set.

Keys and values are read in one pass that keeps a running maximum and
log-sum-exp. Sums of exponentials only grow, so

$$\mathrm{LSE}_\mathrm{running} \le \mathrm{LSE}, \qquad
  s_j < \min(\mathrm{LSE}_\mathrm{running} + \log\eta, m_\mathrm{running})
  \Rightarrow j \notin K:$$

what is dropped, the exact rule drops too. What is loaded beyond it is the price
of not knowing the sum. It stays small if the first blocks know most of the sum:
every program scores the first block and the newest ones before its own, and
goes through its own from the newest to the oldest. Programs cannot tell one
another what they have seen, so each split costs more rows and more such seeds:
take the two-pass kernels where a batch is too small to do without splits.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Int

from kernels_pallas import implementations
from kernels_pallas.threshold_attention import (
  result,
  triton_blocks,
  triton_launch,
)

_MOST_SPLITS = 4  # measured on a model's scores: see README.md
_SEED_PART = 3  # where there are splits, a third of the row are seeds
_SLACK = 1e-4  # nats, so that rounding of two sums never drops a token
_RELATIVE_SLACK = 2.0**-21  # of the maximum, for very large scores


class Known(NamedTuple):
  """What a program knows of a row's scores.

  Attributes:
    top: the highest of them.
    total: sum of exponentials, relative to `top`, that this program counts.
    lent: the same of seeds, which another program counts.
  """

  top: Any
  total: Any
  lent: Any

  def learn(self, s, live) -> "Known":
    """Takes in a block's scores."""
    top = jnp.maximum(self.top, jnp.max(s, axis=1))
    fade = jnp.exp(self.top - top)
    more = jnp.where(live, jnp.exp(s - top[:, None]), 0.0)
    total = self.total * fade + jnp.sum(more, axis=1)
    return Known(top, total, self.lent * fade)

  def least_score(self, log_threshold):
    """As `result.least_score`, a little lower for the sake of rounding."""
    slack = _SLACK + _RELATIVE_SLACK * jnp.abs(self.top)
    lse = self.top + jnp.log(self.total + self.lent) - slack
    return result.least_score(log_threshold, lse, self.top)


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
  """Attends to a safe superset of the tokens that pass the threshold.

  `kept`, `mass` and `rows` describe that superset, and the output is
  renormalised over it. It depends on the launch shape.

  Args:
    q: rotated queries, the last tokens of their rows.
    k_pages: pool of keys.
    v_pages: pool of values.
    table: page number of each row's i-th page.
    lengths: tokens of each row, the newest included.
    log_threshold: least log of a kept attention score, an array.
    window_start: the slot from which on each query keeps all.
    scale: what scores are multiplied with.
    sinks: how many first tokens are always kept.
    config: launch shape; by default as of the two-pass kernels, in at most
      four splits.
    interpret: run on the CPU, to check results; says nothing about speed.

  Returns:
    The attended values and what was kept.

  Raises:
    UnsupportedError: a dtype or size that the kernel does not take, or a
      threshold that is a function.
  """
  if callable(log_threshold):
    raise implementations.UnsupportedError(
      "got a function as log_threshold, expected an array: one pass has no "
      "scores to hand it before values are read; take triton, or xla"
    )
  chosen = config
  rows, config = triton_launch.plan(q, v_pages, table, chosen)
  if chosen is None:
    splits = min(config.splits, _MOST_SPLITS)
    config = dataclasses.replace(config, splits=splits)
  programs, padded = (q.shape[0], rows.kv_heads), rows.padded
  per_split = (*programs, config.splits)
  lengths = lengths.astype(jnp.int32)
  seen = rows.repeat(result.count_seen(lengths, rows.queries))
  like = triton_launch.like
  *parts, top, total = triton_launch.call(
    functools.partial(_kernel, sinks=sinks, scale=scale),
    [
      (rows.fold(q), 2),
      (k_pages, triton_launch.POOL),
      (v_pages, triton_launch.POOL),
      (table.astype(jnp.int32), 1),
      (lengths, 1),
      (seen, 1),
      (rows.repeat(window_start), 1),
      (rows.fold(log_threshold.astype(jnp.float32)), 2),
    ],
    [
      *triton_blocks.Kept.outputs(per_split, padded, q.shape[3]),
      (like((*per_split, padded)), 3),
      (like((*per_split, padded)), 3),
    ],
    config=config,
    programs=programs,
    interpret=interpret,
  )
  highest = jnp.max(top, axis=2)
  total = jnp.sum(total * jnp.exp(top - highest[:, :, None]), axis=2)
  lse = highest + jnp.log(total)
  out, mass, kept, loaded = triton_blocks.Kept(*parts).merge(lse)
  return result.Attended(
    out=rows.unfold(out).astype(q.dtype),
    lse=rows.unfold(lse),
    kept=rows.unfold(kept),
    mass=rows.unfold(mass),
    rows=loaded,
  )


def _kernel(
  q_ref,  # [padded, d]
  k_ref,  # [page, d, t]
  v_ref,  # [page, t, d]
  table_ref,  # [pages]
  length_ref,  # []
  seen_ref,  # [padded]
  start_ref,  # [padded]
  threshold_ref,  # [padded]
  *out_refs,  # of triton_blocks.Kept, then top and total of Known
  block: int,
  splits: int,
  sinks: int,
  scale: float,
):
  """Scores seeds, then scores and adds up this program's own blocks."""
  q, seen, start = q_ref[...], seen_ref[...], start_ref[...]
  log_threshold = threshold_ref[...]
  score = functools.partial(
    triton_blocks.score,
    q=q,
    k_ref=k_ref,
    table_ref=table_ref,
    seen=seen,
    block=block,
    scale=scale,
  )
  length = plgpu.load(length_ref)
  blocks = pl.cdiv(length, block)
  seeds = _count_seeds(blocks, splits)
  first, stop = triton_blocks.span(length, block, splits)

  def seed(n, known):
    s, live = score(jnp.where(n == 0, 0, blocks - seeds + n))
    return known.learn(s, live)

  def body(n, carry):
    known, kept = carry
    i = stop - 1 - n
    s, live = score(i)
    fresh = (i > 0) & (i <= blocks - seeds)
    known = known.learn(s, live & fresh)
    keep = triton_blocks.choose(
      i,
      s,
      known.least_score(log_threshold),
      seen,
      start,
      block=block,
      sinks=sinks,
    )
    kept = triton_blocks.add(i, kept, s, keep, v_ref, table_ref, block=block)
    return known, kept

  none = jnp.zeros(seen.shape, jnp.float32)
  known = Known(jnp.full(seen.shape, triton_blocks.MASKED), none, none)
  known = jax.lax.fori_loop(0, jnp.where(first < stop, seeds, 0), seed, known)
  # All programs of a row score the same seeds, and the first one counts them.
  counts = pl.program_id(2) == 0
  known = known._replace(
    total=jnp.where(counts, known.total, 0.0),
    lent=jnp.where(counts, 0.0, known.total),
  )
  kept = triton_blocks.Kept.start(seen.shape[0], v_ref.shape[2])
  known, kept = jax.lax.fori_loop(0, stop - first, body, (known, kept))
  *kept_refs, top_ref, total_ref = out_refs
  kept.write(*kept_refs)
  top_ref[...] = known.top
  total_ref[...] = known.total


def _count_seeds(blocks, splits: int):
  """Blocks that are scored first: block 0 and the newest ones."""
  newest = 1 if splits == 1 else pl.cdiv(blocks, _SEED_PART)
  return jnp.minimum(1 + newest, blocks)
