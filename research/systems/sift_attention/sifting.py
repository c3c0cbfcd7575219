"""Attention to the kept rows, and what it read and lost."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from research.systems.sift_attention import totals as totals_lib


def sift(
  log_probabilities: Float[Array, "b h t"],
  keep: Bool[Array, "b h t"],
  v: Float[Array, "b t k d"],
  *,
  renormalise: bool = True,
) -> Float[Array, "b h d"]:
  r"""Attends one query a sequence to the kept value rows.

  $$o = \sum_{j \in K} \frac{a_j}{\sum_{i \in K} a_i} v_j$$

  Weights are made in the log domain, so that a row whose kept scores all
  underflow still sums to 1. Value rows that no head of a group keeps do not
  reach the result, whatever they hold.

  Args:
    log_probabilities: $\log a_j$ of exact attention.
    keep: at least one slot of every head.
    v: values.
    renormalise: divide by the kept mass; the paper does not say.

  Returns:
    The attended values, in the dtype of `v`.
  """
  scores = jnp.where(keep, log_probabilities, -jnp.inf)
  weights = jax.nn.softmax(scores) if renormalise else jnp.exp(scores)
  read = rows_read(keep, v.shape[2])
  values = jnp.where(read.transpose(0, 2, 1)[..., None], v, 0)
  groups = weights.reshape(*read.shape[:2], -1, read.shape[2])
  out = jnp.einsum(
    "bkgt,btkd->bkgd", groups, values, preferred_element_type="float32"
  )
  return out.reshape(*keep.shape[:2], -1).astype(v.dtype)


def rows_read(
  keep: Bool[Array, "b h t"], kv_heads: int
) -> Bool[Array, "b k t"]:
  """Returns the value rows that some query head of each group keeps."""
  batch, heads, size = keep.shape
  if heads % kv_heads:
    raise ValueError(
      f"{heads} query heads do not divide among {kv_heads} key-value heads"
    )
  return keep.reshape(batch, kv_heads, -1, size).any(2)


class Statistics(NamedTuple):
  """What one step kept; stack steps on a new first axis.

  Attributes:
    lengths: the step S of each sequence, `[b]`.
    kept: scores kept, `[b, h]`.
    rows: value rows read after the union over each group, `[b, k]`.
    mass: share of the probability that was kept, `[b, h]`.
  """

  lengths: jax.Array
  kept: jax.Array
  rows: jax.Array
  mass: jax.Array


def measure(
  log_probabilities: Float[Array, "b h t"],
  keep: Bool[Array, "b h t"],
  lengths: Int[Array, " b"],
  kv_heads: int,
) -> Statistics:
  """Counts what a selection keeps; dtypes are fixed, so that it scans."""
  mass = jnp.where(keep, jnp.exp(log_probabilities), 0).sum(-1)
  return Statistics(
    lengths,
    keep.sum(-1, dtype=jnp.int32),
    rows_read(keep, kv_heads).sum(-1, dtype=jnp.int32),
    mass,
  )


def error_bound(
  mass: Float[Array, "b h"], v: Float[Array, "b t k d"]
) -> Float[Array, "b h"]:
  r"""Bounds what renormalised sifting changes: $2 (1 - m) \max_j \|v_j\|$.

  What is dropped has norm at most $(1 - m) \max\|v\|$, and so has what the kept
  weights gain.

  Args:
    mass: $m$, the kept share of the probability.
    v: live values; zero in slots that hold none.

  Returns:
    A bound on $\|o - \hat o\|_2$ of each head.
  """
  largest = jnp.linalg.norm(v.astype(jnp.float32), axis=-1).max(1)
  groups = mass.shape[1] // largest.shape[1]
  return 2 * (1 - mass) * jnp.repeat(largest, groups, axis=1)


@dataclasses.dataclass(frozen=True)
class Budget:
  """What was read, over all counted rows.

  Attributes:
    kept_share: scores kept of those live, over all heads.
    head_share: the same for each sequence and head, `[b, h]`, after the axis of
      layers where there is one.
    row_share: value rows read of those live, after the union over groups.
    byte_share: bytes of keys and values read, of those that dense attention
      reads; keys are always read, so it is never under a half.
    bytes_read: those bytes.
    mass: mean kept mass.
  """

  kept_share: float
  head_share: np.ndarray
  row_share: float
  byte_share: float
  bytes_read: int
  mass: float


def budget(
  steps: Statistics, *, after: int, width: int, itemsize: int
) -> Budget:
  """Sums up the steps of a run, on the host.

  Args:
    steps: stacked statistics, each leaf with the step as first axis.
    after: rows of steps up to this one do not count. Policies that are compared
      get the same: the longest warm-up among them, whose rows are exact.
    width: numbers in one key or value row.
    itemsize: bytes of a number.

  Returns:
    The budget that the run used.

  Raises:
    ValueError: if no row counts.
  """
  lengths = np.asarray(steps.lengths, np.int64)
  counted = lengths > after
  if not counted.any():
    raise ValueError(
      f"no step is after {after}, got steps up to {lengths.max()}"
    )
  sums = lambda x: np.where(counted[..., None], np.asarray(x), 0).sum(0)
  live = np.where(counted, lengths, 0).sum(0)
  totals = totals_lib.Totals(
    queries=counted.sum(0),
    seen=live,
    live=live,
    kept=sums(steps.kept),
    rows=sums(steps.rows),
    mass=sums(np.asarray(steps.mass, np.float64)),
  )
  return spent(totals, width=width, itemsize=itemsize)


def spent(totals: totals_lib.Totals, *, width: int, itemsize: int) -> Budget:
  """Says what totals come to, on the host.

  Args:
    totals: of one layer or, on a new first axis, of several.
    width: numbers in one key or value row.
    itemsize: bytes of a number.

  Returns:
    The budget that was used.

  Raises:
    ValueError: if nothing was counted.
  """
  totals = jax.tree.map(np.asarray, totals)
  if not totals.queries.any():
    raise ValueError("no step was counted; decode at least one")
  heads, kv_heads = totals.kept.shape[-1], totals.rows.shape[-1]
  # In 64 bits: numpy's sums of narrower integers are, of floats are not.
  dense, rows = int(totals.live.sum()) * kv_heads, int(totals.rows.sum())
  mass = totals.mass.sum(dtype=np.float64)
  return Budget(
    kept_share=float(totals.kept.sum() / (totals.seen.sum() * heads)),
    head_share=np.asarray(totals.kept / np.maximum(totals.seen, 1)[..., None]),
    row_share=rows / dense,
    byte_share=(dense + rows) / (2 * dense),
    bytes_read=(dense + rows) * width * itemsize,
    mass=float(mass / (totals.queries.sum() * heads)),
  )
