"""Threshold attention as two Pallas-Triton kernels.

The first reads every key, writes the scores, and leaves a maximum and a sum per
block, from which the exact log-sum-exp follows before any value is touched. The
second reads the scores back and loads only the value rows that some query head
of the group keeps. Sums per block, not per split, make the log-sum-exp, and so
the kept set, the same for every number of splits, bit for bit.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Int

from kernels_pallas.threshold_attention import result

_LEAST_DOT = 16  # rows that a matrix instruction needs; groups are padded
_MASKED = -1e30  # finite, so that differences are never NaN
_MOST_ELEMENTS = 2**31 - 1  # Triton's addresses are 32-bit element offsets
_POOL = -1  # in place of grid axes: all pages of the program's head
_DTYPES = ("bfloat16", "float16", "float32")


@dataclasses.dataclass(frozen=True)
class Config:
  """How the kernels are launched.

  Attributes:
    block: tokens that go together; divides the page size.
    splits: programs that share a row and key-value head.
    num_warps: warps of a program.
    num_stages: depth of the load pipeline.
  """

  block: int = 64
  splits: int = 8
  num_warps: int = 4
  num_stages: int = 2


def config_for(
  batch: int, kv_heads: int, *, tokens: int, page_size: int, itemsize: int = 2
) -> Config:
  """Picks a launch shape from the sizes alone; nothing here is timed.

  Args:
    batch: rows.
    kv_heads: key-value heads.
    tokens: the most tokens that a row's pages hold.
    page_size: tokens a page holds.
    itemsize: bytes of a number. Four-byte products do without matrix units and
      need more registers, so they go in smaller blocks over more threads.

  Returns:
    A configuration with about two programs for each of an H100's 132
    multiprocessors, unless that would leave a program under 256 tokens.

  Example:
    >>> config_for(1, 8, tokens=32768, page_size=64).splits
    32
  """
  wanted = max(1, 264 // (batch * kv_heads))
  splits = min(wanted, max(1, tokens // 256), 64)
  block, warps = (64, 4) if itemsize < 4 else (32, 8)
  return Config(
    block=min(block, page_size),
    splits=2 ** int(math.log2(splits)),
    num_warps=warps,
  )


def attend(
  q: Float[Array, "b h d"],
  k_pages: Float[Array, "page k d t"],
  v_pages: Float[Array, "page k t d"],
  table: Int[Array, "b pages"],
  lengths: Int[Array, " b"],
  log_threshold: Float[Array, "b h"],
  *,
  scale: float,
  config: Config | None = None,
  interpret: bool = False,
) -> result.Attended:
  """Attends with row-masked loads of values.

  Args:
    q: one rotated query a row.
    k_pages: pool of keys.
    v_pages: pool of values.
    table: page number of each row's i-th page.
    lengths: tokens of each row, the newest included.
    log_threshold: least log of a kept attention score, in nats.
    scale: what scores are multiplied with.
    config: launch shape; by default `config_for` picks.
    interpret: run on the CPU, to check results; says nothing about speed.

  Returns:
    The attended values and what was kept.

  Raises:
    UnsupportedError: a dtype or size that the kernels do not take.
  """
  batch, heads, width = q.shape
  kv_heads, size = v_pages.shape[1:3]
  tokens = table.shape[1] * size
  if config is None:
    config = config_for(
      batch,
      kv_heads,
      tokens=tokens,
      page_size=size,
      itemsize=q.dtype.itemsize,
    )
  group = heads // kv_heads
  padded = max(_LEAST_DOT, 2 ** math.ceil(math.log2(group)))
  _check(q, v_pages, config, spill=batch * kv_heads * padded * tokens)
  pad = lambda x: _pad_group(x.reshape(batch, kv_heads, group, -1), padded)
  table, lengths = table.astype(jnp.int32), lengths.astype(jnp.int32)
  call = functools.partial(
    _call,
    config=config,
    grid=(batch, kv_heads, config.splits),
    group=group,
    interpret=interpret,
  )
  per_block = (batch, kv_heads, tokens // config.block, padded)
  scores, top, total = call(
    functools.partial(_score_kernel, scale=scale),
    [(pad(q), 2), (k_pages, _POOL), (table, 1), (lengths, 1)],
    [
      (_like((batch, kv_heads, padded, tokens)), 2),
      (_like(per_block), 2),
      (_like(per_block), 2),
    ],
  )
  most, lse = _reduce(top, total, pl.cdiv(lengths, config.block))
  threshold = pad(log_threshold)[..., 0].astype(jnp.float32)
  least = jnp.minimum(lse + threshold, most)
  per_split = (batch, kv_heads, config.splits)
  out, mass, kept, rows = call(
    _value_kernel,
    [
      (scores, 2),
      (lse, 2),
      (least, 2),
      (v_pages, _POOL),
      (table, 1),
      (lengths, 1),
    ],
    [
      (_like((*per_split, padded, width)), 3),
      (_like((*per_split, padded)), 3),
      (_like((*per_split, padded), jnp.int32), 3),
      (_like(per_split, jnp.int32), 3),
    ],
  )
  heads_of = lambda x: x[:, :, :group].reshape(batch, heads, *x.shape[3:])
  mass = jnp.sum(mass, axis=2)
  out = jnp.sum(out, axis=2) / jnp.where(mass > 0, mass, 1.0)[..., None]
  return result.Attended(
    out=heads_of(out).astype(q.dtype),
    lse=heads_of(lse),
    kept=heads_of(jnp.sum(kept, axis=2)),
    mass=heads_of(mass),
    rows=jnp.sum(rows, axis=2),
  )


def _check(q, v_pages, config: Config, *, spill: int) -> None:
  """Refuses what would not lower, or would lower to wrong addresses."""
  size, width = v_pages.shape[2:]
  dtypes = {str(q.dtype), str(v_pages.dtype)}
  problems = {
    f"got dtypes {sorted(dtypes)}, expected one of {_DTYPES} for all": (
      len(dtypes) > 1 or not dtypes <= set(_DTYPES)
    ),
    f"got head_dim {width}, expected a power of two from 16": (
      width < _LEAST_DOT or width & (width - 1)
    ),
    f"got block {config.block} for pages of {size}, expected a power of two "
    "from 16 that divides the page": (
      config.block < _LEAST_DOT
      or config.block & (config.block - 1)
      or size % config.block
    ),
    f"got a pool of {v_pages.size} and scores of {spill} elements, expected "
    f"at most {_MOST_ELEMENTS}: divide the pool or the batch": (
      max(v_pages.size, spill) > _MOST_ELEMENTS
    ),
  }
  for problem, there in problems.items():
    if there:
      raise result.UnsupportedError(problem)


def _pad_group(x, padded: int):
  missing = padded - x.shape[2]
  return jnp.pad(x, ((0, 0), (0, 0), (0, missing), (0, 0)))


def _reduce(top, total, blocks):
  """Merges the blocks' maxima and sums; blocks past the length hold junk."""
  live = jnp.arange(top.shape[2])[None, :] < blocks[:, None]
  live = live[:, None, :, None]
  top, total = jnp.where(live, top, _MASKED), jnp.where(live, total, 0.0)
  most = jnp.max(top, axis=2)
  total = jnp.sum(total * jnp.exp(top - most[:, :, None]), axis=2)
  return most, most + jnp.log(total)


def _like(shape, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype)


def _call(kernel, inputs, outputs, *, config, grid, group, interpret):
  """Calls a kernel; beside each array stands how many grid axes index it."""
  static = {"block": config.block, "splits": config.splits, "group": group}
  return pl.pallas_call(
    functools.partial(kernel, **static),
    grid=grid,
    in_specs=[_spec(x.shape, axes) for x, axes in inputs],
    out_specs=[_spec(x.shape, axes) for x, axes in outputs],
    out_shape=[x for x, _ in outputs],
    compiler_params=plgpu.CompilerParams(
      num_warps=config.num_warps, num_stages=config.num_stages
    ),
    interpret=interpret,
  )(*(x for x, _ in inputs))


def _spec(shape, axes: int) -> pl.BlockSpec:
  """The part of an array that a program sees."""
  if axes == _POOL:
    return pl.BlockSpec(
      (shape[0], None, *shape[2:]), lambda *program: (0, program[1], 0, 0)
    )
  rest = shape[axes:]
  zeros = (0,) * len(rest)
  return pl.BlockSpec(
    (None,) * axes + rest, lambda *program: (*program[:axes], *zeros)
  )


def _span(length, block: int, splits: int):
  """The blocks of this program: an equal share of the row's own."""
  blocks = pl.cdiv(length, block)
  share = pl.cdiv(blocks, splits)
  start = pl.program_id(2) * share
  return start, jnp.minimum(start + share, blocks)


def _locate(i, table_ref, block: int, size: int):
  """The page of the i-th block, and its slots in that page."""
  of_page = size // block
  return plgpu.load(table_ref.at[i // of_page]), pl.ds(
    i % of_page * block, block
  )


def _dot(a, b):
  exact = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
  return plgpu.dot(a, b, precision=exact)


def _score_kernel(
  q_ref,  # [group, d]
  k_ref,  # [page, d, t]
  table_ref,  # [pages]
  length_ref,  # []
  score_ref,  # [group, tokens]
  top_ref,  # [blocks, group]
  total_ref,  # [blocks, group]
  *,
  block: int,
  splits: int,
  group: int,
  scale: float,
):
  """Writes the scores, and the maximum and sum of each block."""
  q = q_ref[...]
  length = plgpu.load(length_ref)
  real = jnp.arange(q.shape[0]) < group

  def body(i, carry):
    page, slots = _locate(i, table_ref, block, k_ref.shape[2])
    seen = (i * block + jnp.arange(block) < length)[None, :]
    # Not masked: slots past the length are in the pool, a mask along slots
    # would break the loads into single elements, and `where` drops the column.
    k = plgpu.load(k_ref.at[page, :, slots])
    s = jnp.where(seen, _dot(q, k) * scale, _MASKED)
    top = jnp.max(s, axis=1)
    plgpu.store(score_ref.at[:, pl.ds(i * block, block)], s, mask=real[:, None])
    plgpu.store(top_ref.at[i], top)
    plgpu.store(total_ref.at[i], jnp.sum(jnp.exp(s - top[:, None]), axis=1))
    return carry

  jax.lax.fori_loop(*_span(length, block, splits), body, 0)


def _value_kernel(
  score_ref,  # [group, tokens]
  lse_ref,  # [group]
  least_ref,  # [group]
  v_ref,  # [page, t, d]
  table_ref,  # [pages]
  length_ref,  # []
  out_ref,  # [group, d]
  mass_ref,  # [group]
  kept_ref,  # [group]
  rows_ref,  # []
  *,
  block: int,
  splits: int,
  group: int,
):
  """Adds up the value rows that some query head of the group keeps."""
  length = plgpu.load(length_ref)
  lse, least = lse_ref[...][:, None], least_ref[...][:, None]
  real = (jnp.arange(lse.shape[0]) < group)[:, None]

  def body(i, carry):
    out, mass, kept, rows = carry
    page, slots = _locate(i, table_ref, block, v_ref.shape[1])
    position = (i * block + jnp.arange(block))[None, :]
    s = plgpu.load(
      score_ref.at[:, pl.ds(i * block, block)], mask=real, other=_MASKED
    )
    keep = (s >= least) | (position == length - 1)
    keep = keep & (position < length) & real
    weights = jnp.where(keep, jnp.exp(s - lse), 0.0)
    counted = keep.astype(jnp.int32)
    wanted = jnp.max(counted, axis=0)

    def add(out):
      v = plgpu.load(
        v_ref.at[page, slots, :], mask=(wanted > 0)[:, None], other=0.0
      )
      return out + _dot(weights.astype(v.dtype), v)

    out = jax.lax.cond(jnp.max(wanted) > 0, add, lambda out: out, out)
    mass = mass + jnp.sum(weights, axis=1)
    kept = kept + jnp.sum(counted, axis=1)
    return out, mass, kept, rows + jnp.sum(wanted)

  start = [
    jnp.zeros(ref.shape, ref.dtype)
    for ref in (out_ref, mass_ref, kept_ref, rows_ref)
  ]
  out, mass, kept, rows = jax.lax.fori_loop(
    *_span(length, block, splits), body, tuple(start)
  )
  out_ref[...] = out
  mass_ref[...] = mass
  kept_ref[...] = kept
  plgpu.store(rows_ref, rows)
