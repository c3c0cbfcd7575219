"""How the Triton kernels are launched: shapes, limits and the call itself."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Int

from kernels_pallas import implementations

POOL = -1  # in place of grid axes: all pages of the program's head

_LEAST_DOT = 16  # rows that a matrix instruction needs
_MOST_ROWS, _MOST_OUTPUT = 64, 64 * 128  # of a program; more would spill
_MOST_ELEMENTS = 2**31 - 1  # Triton's addresses are 32-bit element offsets
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


@dataclasses.dataclass(frozen=True)
class Rows:
  """Queries and the heads of a group, folded into rows of a product.

  Attributes:
    queries: tokens of a row in this call.
    kv_heads: key-value heads.
    group: query heads that share one of them.
  """

  queries: int
  kv_heads: int
  group: int

  @property
  def count(self) -> int:
    """Rows that are there."""
    return self.queries * self.group

  @property
  def padded(self) -> int:
    """Rows of the product: a power of two that matrix units take."""
    return max(_LEAST_DOT, 2 ** math.ceil(math.log2(self.count)))

  def fold(self, x: jax.Array) -> jax.Array:
    """Turns `[b, s, h, ...]` into `[b, k, padded, ...]`, padded with zeros."""
    split = (*x.shape[:2], self.kv_heads, self.group, *x.shape[3:])
    x = jnp.moveaxis(x.reshape(split), 2, 1)
    x = x.reshape(x.shape[0], self.kv_heads, self.count, *x.shape[4:])
    rest = ((0, 0),) * (x.ndim - 3)
    missing = self.padded - self.count
    return jnp.pad(x, ((0, 0), (0, 0), (0, missing), *rest))

  def unfold(self, x: jax.Array) -> jax.Array:
    """Turns `[b, k, padded, ...]` into `[b, s, h, ...]`."""
    split = (x.shape[0], self.kv_heads, self.queries, self.group)
    x = x[:, :, : self.count].reshape(*split, *x.shape[3:])
    x = jnp.moveaxis(x, 1, 2)
    heads = self.kv_heads * self.group
    return x.reshape(*x.shape[:2], heads, *x.shape[4:])

  def repeat(self, x: Int[Array, "b s"]) -> Int[Array, "b padded"]:
    """Gives each row what its query has; padding gets 0."""
    x = jnp.repeat(x.astype(jnp.int32), self.group, axis=1)
    return jnp.pad(x, ((0, 0), (0, self.padded - self.count)))


def config_for(
  programs: int,
  rows: int,
  *,
  tokens: int,
  page_size: int,
  width: int,
  itemsize: int = 2,
) -> Config:
  """Picks a launch shape from the sizes alone; nothing here is timed.

  Blocks, warps and stages are those of the table that `tuning` prints, which
  keep the most bytes in flight without a spill on sm_80 and sm_90. Three stages
  load the number of a page before its keys.

  Args:
    programs: pairs of row and key-value head.
    rows: rows of a product, padded.
    tokens: the most tokens that a row's pages hold.
    page_size: tokens a page holds.
    width: of a head.
    itemsize: bytes of a number. Four-byte products do without matrix units and
      need more registers, so they go in smaller blocks.

  Returns:
    A configuration with about two programs for each of an H100's 132
    multiprocessors, unless that would leave a program under 256 tokens.

  Example:
    >>> config_for(8, 16, tokens=32768, page_size=64, width=128).splits
    32
  """
  splits = min(max(1, 264 // programs), max(1, tokens // 256), 64)
  if itemsize < 4:
    block, stages, wide = 64, 3, rows > _LEAST_DOT
  else:
    block, stages, wide = 32, 2, rows * width > _LEAST_DOT * 128
  return Config(
    block=min(block, page_size),
    splits=2 ** int(math.log2(splits)),
    num_warps=8 if wide else 4,
    num_stages=stages,
  )


def plan(
  q: jax.Array, v_pages: jax.Array, table: jax.Array, config: Config | None
) -> tuple[Rows, Config]:
  """Folds the queries and picks a launch shape.

  Args:
    q: queries, `[b, s, h, d]`.
    v_pages: pool of values.
    table: page numbers.
    config: launch shape; by default `config_for` picks.

  Returns:
    The rows and the launch shape.

  Raises:
    UnsupportedError: a dtype or size that the kernels do not take.
  """
  batch, queries, heads, width = q.shape
  kv_heads, size = v_pages.shape[1:3]
  rows = Rows(queries, kv_heads, heads // kv_heads)
  tokens = table.shape[1] * size
  if config is None:
    config = config_for(
      batch * kv_heads,
      rows.padded,
      tokens=tokens,
      page_size=size,
      width=width,
      itemsize=q.dtype.itemsize,
    )
  spill = batch * kv_heads * rows.padded * tokens
  _check(q, v_pages, config, rows=rows, spill=spill)
  return rows, config


def _check(q, v_pages, config: Config, *, rows: Rows, spill: int) -> None:
  """Refuses what would not lower, or would lower to wrong addresses."""
  size, width = v_pages.shape[2:]
  most = min(_MOST_ROWS, _MOST_OUTPUT // width)
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
    f"got {rows.queries} queries of groups of {rows.group}, expected at most "
    f"{most} together: prefill is another operation": rows.padded > most,
    f"got a pool of {v_pages.size} and scores of {spill} elements, expected "
    f"at most {_MOST_ELEMENTS}: divide the pool or the batch": (
      max(v_pages.size, spill) > _MOST_ELEMENTS
    ),
  }
  for problem, there in problems.items():
    if there:
      raise implementations.UnsupportedError(problem)


def like(shape: Sequence[int], dtype: Any = jnp.float32):
  """An output, by shape."""
  return jax.ShapeDtypeStruct(shape, dtype)


def call(
  kernel: Callable[..., None],
  inputs: Sequence[tuple[jax.Array, int]],
  outputs: Sequence[tuple[jax.ShapeDtypeStruct, int]],
  *,
  config: Config,
  programs: tuple[int, int],
  interpret: bool,
) -> Sequence[jax.Array]:
  """Calls a kernel on the grid of rows, key-value heads and splits.

  Args:
    kernel: takes a reference to each input and output.
    inputs: arrays, and how many grid axes index each, or `POOL`.
    outputs: the same of what it writes.
    config: launch shape.
    programs: rows and key-value heads.
    interpret: run on the CPU.

  Returns:
    The outputs.
  """
  return pl.pallas_call(
    functools.partial(kernel, block=config.block, splits=config.splits),
    grid=(*programs, config.splits),
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
  if axes == POOL:
    return pl.BlockSpec(
      (shape[0], None, *shape[2:]), lambda *program: (0, program[1], 0, 0)
    )
  rest = shape[axes:]
  zeros = (0,) * len(rest)
  return pl.BlockSpec(
    (None,) * axes + rest, lambda *program: (*program[:axes], *zeros)
  )
