"""What the Triton kernels do with one block of tokens."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float

from kernels_pallas.threshold_attention import triton_launch

MASKED = -1e30  # finite, so that differences are never NaN


class Kept(NamedTuple):
  """What the kept tokens have added up to, row by row.

  Attributes:
    out: sum of weighted values; weights are relative to `top`.
    top: the highest kept score.
    total: sum of weights.
    count: tokens kept.
    loaded: tokens that some row kept, one number.
  """

  out: Any
  top: Any
  total: Any
  count: Any
  loaded: Any

  @classmethod
  def start(cls, padded: int, width: int) -> "Kept":
    """Nothing kept yet."""
    return cls(
      jnp.zeros((padded, width), jnp.float32),
      jnp.full((padded,), MASKED, jnp.float32),
      jnp.zeros((padded,), jnp.float32),
      jnp.zeros((padded,), jnp.int32),
      jnp.zeros((), jnp.int32),
    )

  @classmethod
  def outputs(cls, per_split: tuple[int, ...], padded: int, width: int):
    """The outputs of a kernel that keeps, for `triton_launch.call`."""
    per_row, like = (*per_split, padded), triton_launch.like
    return [
      (like((*per_row, width)), 3),
      (like(per_row), 3),
      (like(per_row), 3),
      (like(per_row, jnp.int32), 3),
      (like(per_split, jnp.int32), 3),
    ]

  def write(self, *refs) -> None:
    """Stores the parts."""
    *rows, loaded = refs
    for ref, x in zip(rows, self[:-1], strict=True):
      ref[...] = x
    plgpu.store(loaded, self.loaded)

  def merge(self, lse: Float[Array, "b k padded"]) -> tuple[Any, ...]:
    """Merges the splits, which lie along axis 2.

    Args:
      lse: log-sum-exp of all scores.

    Returns:
      Renormalised output, mass and count by row, and what was loaded.
    """
    top = jnp.max(self.top, axis=2)
    fade = jnp.exp(self.top - top[:, :, None])
    total = jnp.sum(self.total * fade, axis=2)
    out = jnp.sum(self.out * fade[..., None], axis=2)
    some = total > 0
    out = out / jnp.where(some, total, 1.0)[..., None]
    mass = total * jnp.exp(jnp.where(some, top - lse, 0.0))
    return (
      out,
      jnp.minimum(mass, 1.0),
      jnp.sum(self.count, axis=2),
      jnp.sum(self.loaded, axis=2),
    )


def span(length, block: int, splits: int):
  """The blocks of this program: an equal share of the row's own."""
  blocks = pl.cdiv(length, block)
  share = pl.cdiv(blocks, splits)
  start = pl.program_id(2) * share
  return start, jnp.minimum(start + share, blocks)


def locate(i, table_ref, block: int, size: int):
  """The page of the i-th block, and its slots in that page."""
  of_page = size // block
  return plgpu.load(table_ref.at[i // of_page]), pl.ds(
    i % of_page * block, block
  )


def score(i, q, k_ref, table_ref, seen, *, block: int, scale: float):
  """Scores the i-th block; returns scores, and which of them are real."""
  page, slots = locate(i, table_ref, block, k_ref.shape[2])
  live = (i * block + jnp.arange(block))[None, :] < seen[:, None]
  # Not masked: slots past the length are in the pool, a mask along slots
  # would break the loads into single elements, and `where` drops the column.
  k = plgpu.load(k_ref.at[page, :, slots])
  return jnp.where(live, _dot(q, k) * scale, MASKED), live


def choose(i, s, least, seen, start, *, block: int, sinks: int):
  """Which tokens of the i-th block each row keeps."""
  position = (i * block + jnp.arange(block))[None, :]
  keep = (s >= least[:, None]) | (position >= start[:, None])
  if sinks:
    keep = keep | (position < sinks)
  return keep & (position < seen[:, None])


def add(i, kept: Kept, s, keep, v_ref, table_ref, *, block: int) -> Kept:
  """Adds the values that some row keeps; loads these and no others."""
  page, slots = locate(i, table_ref, block, v_ref.shape[1])
  counted = keep.astype(jnp.int32)
  wanted = jnp.max(counted, axis=0)

  def load(out, top, total):
    higher = jnp.maximum(top, jnp.max(jnp.where(keep, s, MASKED), axis=1))
    fade = jnp.exp(top - higher)
    weights = jnp.where(keep, jnp.exp(s - higher[:, None]), 0.0)
    v = plgpu.load(
      v_ref.at[page, slots, :], mask=(wanted > 0)[:, None], other=0.0
    )
    out = out * fade[:, None] + _dot(weights.astype(v.dtype), v)
    return out, higher, total * fade + jnp.sum(weights, axis=1)

  # One branch for the block, not one for each row: programs do not diverge.
  out, top, total = jax.lax.cond(
    jnp.max(wanted) > 0, load, lambda *same: same, *kept[:3]
  )
  count = kept.count + jnp.sum(counted, axis=1)
  return Kept(out, top, total, count, kept.loaded + jnp.sum(wanted))


def _dot(a, b):
  exact = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
  return plgpu.dot(a, b, precision=exact)
