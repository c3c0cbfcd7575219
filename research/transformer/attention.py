"""Attention as an object that the decoder is called with.

An `Attention` owns what happens between rotary embedding and output projection,
its layer's cache included, so that paged decoding, threshold attention or a
scoring pass are chosen by the caller and the decoder stays one function.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kernels_pallas import implementations
from kernels_pallas.threshold_attention import api as threshold_attention
from research.transformer import cache
from research.transformer import partition as partition_lib

_WHOLE = partition_lib.Whole()
_MASKED = -1e30  # finite, so that a row with no key at all gives no NaN
_BLOCK = 128  # queries of causal attention that go together
_MOST_BLOCKS = 8  # more would only make programs long


@runtime_checkable  # the tests' type checker looks with isinstance
class Attention(Protocol):
  """Attends one layer's queries to its keys and values."""

  def __call__(
    self,
    layer: int,
    q: Float[Array, "b s h d"],
    k: Float[Array, "b s k d"],
    v: Float[Array, "b s k d"],
    positions: Int[Array, "b s"],
    state: Any,
  ) -> tuple[Float[Array, "b s h d"], Any]:
    """Attends.

    Args:
      layer: the layer's number.
      q: rotated queries.
      k: rotated keys of the same tokens.
      v: values of the same tokens.
      positions: of the tokens in their rows.
      state: this layer's cache (or whatever the object keeps), or `None`.

    Returns:
      The attended values and the layer's next state.
    """
    ...


@dataclasses.dataclass(frozen=True)
class Causal:
  """Causal attention within the call; rows start at position 0, no cache.

  Attributes:
    partition: how ranks share the heads.
  """

  partition: partition_lib.Partition = _WHOLE

  def __call__(self, layer, q, k, v, positions, state):
    """See `Attention`."""
    del layer, positions
    return attend_causal(q, k, v, self.partition), state


@dataclasses.dataclass(frozen=True)
class PagedPrefill:
  """Causal attention that also stores keys and values from position 0.

  Attributes:
    table: page number of each row's i-th page, `[b, pages]`.
    partition: how ranks share the heads.
  """

  table: jax.Array
  partition: partition_lib.Partition = _WHOLE

  def __call__(self, layer, q, k, v, positions, state):
    """See `Attention`."""
    state = cache.write_prefix(state, self.table, k, v)
    del layer, positions
    return attend_causal(q, k, v, self.partition), state


@dataclasses.dataclass(frozen=True)
class PagedDecode:
  """Attention to everything cached so far.

  Attributes:
    table: page number of each row's i-th page, `[b, pages]`.
    partition: how ranks share the heads.
    implementation: see `attend_cached`.
  """

  table: jax.Array
  partition: partition_lib.Partition = _WHOLE
  implementation: str | None = None

  def __call__(self, layer, q, k, v, positions, state):
    """See `Attention`."""
    del layer
    state = cache.write_tokens(state, self.table, positions, k, v)
    heads = attend_cached(
      q, state, self.table, positions, self.partition, self.implementation
    )
    return heads, state


@dataclasses.dataclass(frozen=True)
class PagedGroups:
  """Cached attention of one flat batch of rows with unlike numbers of queries.

  The batch is `[1, tokens]`: groups one after another, and in each its rows one
  after another. So decoding rows (one query each) and pieces of prompts share
  the products of one pass. Everything is written before anything is read: two
  rows of a group may be pieces of one sequence.

  Attributes:
    tables: of each group, the page number of each row's i-th page,
      `[rows, pages]`; numbers that no page has are for rows of nobody.
    lengths: queries of each row, by group.
    partition: how ranks share the heads.
    implementation: see `attend_cached`.
    lasts: of each group, the last position up to which pages are read; those of
      the queries when omitted.
  """

  tables: tuple[jax.Array, ...]
  lengths: tuple[int, ...]
  partition: partition_lib.Partition = _WHOLE
  implementation: str | None = None
  lasts: tuple[jax.Array, ...] | None = None

  def __call__(self, layer, q, k, v, positions, state):
    """See `Attention`."""
    del layer
    groups = list(zip(self.tables, self.split(positions), strict=True))
    for (table, at), key, value in zip(
      groups, self.split(k), self.split(v), strict=True
    ):
      state = cache.write_tokens(state, table, at, key, value)
    lasts = self.lasts or (None,) * len(groups)
    outs = [
      attend_cached(
        query, state, table, at, self.partition, self.implementation, last
      )
      for (table, at), query, last in zip(
        groups, self.split(q), lasts, strict=True
      )
    ]
    return join(outs), state

  def split(self, x: jax.Array) -> list[jax.Array]:
    """Cuts `[1, tokens, ...]` into groups, each `[rows, length, ...]`."""
    parts, start = [], 0
    for table, length in zip(self.tables, self.lengths, strict=True):
      size = len(table) * length
      part = x[0, start : start + size]
      parts.append(part.reshape(len(table), length, *x.shape[2:]))
      start += size
    return parts


def join(
  groups: Sequence[Float[Array, "_ _ *rest"]],
) -> Float[Array, "1 tokens *rest"]:
  """Returns groups as one flat batch, which `PagedGroups.split` cuts again."""
  flat = [group.reshape(1, -1, *group.shape[2:]) for group in groups]
  return jnp.concatenate(flat, axis=1)


def attend_causal(
  q: Float[Array, "b s h d"],
  k: Float[Array, "b s k d"],
  v: Float[Array, "b s k d"],
  partition: partition_lib.Partition = _WHOLE,
) -> Float[Array, "b s h d"]:
  r"""Exact causal attention of rows that start at position 0.

  $$o_i = \sum_{j \le i} \mathrm{softmax}_j(q_i k_j / \sqrt d)\, v_j$$

  Queries go in blocks, each against only the keys that it may see, so that a
  third to a half of the scores are never made. `jax.nn.dot_product_attention`
  makes all of them and, with grouped heads on a CPU, a transposed copy.

  Args:
    q: rotated queries.
    k: rotated keys.
    v: values.
    partition: how ranks share the heads.

  Returns:
    The attended values, in the dtype of `q`.
  """
  length = q.shape[1]
  size = max(_BLOCK, -(-length // _MOST_BLOCKS))
  rows = _group_rows(q, k.shape[2])
  keys, values = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)
  blocks = []
  for start in range(0, length, size):
    stop = min(start + size, length)
    block = rows[:, :, :, start:stop]
    flat = block.reshape(*block.shape[:2], -1, block.shape[-1])
    scores = partition.total_scores(_scores(flat, keys[..., :stop]))
    seen = jnp.arange(stop)[None, :] <= jnp.arange(start, stop)[:, None]
    seen = jnp.tile(seen, (block.shape[2], 1))[None, None]
    weights = jax.nn.softmax(jnp.where(seen, scores, _MASKED), axis=-1)
    blocks.append(_values(weights, values[:, :, :stop]).reshape(block.shape))
  out = jnp.concatenate(blocks, axis=3).astype(q.dtype)
  return out.transpose(0, 3, 1, 2, 4).reshape(q.shape)


def attend_cached(
  q: Float[Array, "b s h d"],
  pages: cache.Pages,
  table: Int[Array, "b pages"],
  positions: Int[Array, "b s"],
  partition: partition_lib.Partition = _WHOLE,
  implementation: str | None = None,
  last: Int[Array, ""] | None = None,
) -> Float[Array, "b s h d"]:
  """Exact attention to cached keys: a kernel on a GPU, and else `attend_pages`.

  The kernel is that of threshold attention, whose threshold of $-\\infty$ keeps
  everything. It cannot add up scores of parts of heads.

  Args:
    q: rotated queries.
    pages: the layer's pool, the queries' own tokens included.
    table: page number of each row's i-th page; a number that no page has past
      its end, and for rows of nobody.
    positions: of the queries in their rows, one after another.
    partition: how ranks share the heads.
    implementation: `"xla"` or `"triton"`; by default what suits the machine.
    last: see `attend_pages`.

  Returns:
    The attended values, in the dtype of `q`.

  Raises:
    UnsupportedError: the implementation does not take the arguments.
  """
  known = {
    "xla": lambda: attend_pages(q, pages, table, positions, partition, last),
    "triton": lambda: _attend_by_kernel(q, pages, table, positions, partition),
  }
  run = lambda chosen: chosen()
  return implementations.first(
    "cached attention", known, implementation, run, gpu=("triton",)
  )


def _attend_by_kernel(q, pages, table, positions, partition):
  if not partition.whole_heads:
    raise implementations.UnsupportedError("ranks have parts of every head")
  count, more = pages.k.shape[0], (q.shape[1] - 1) // pages.page_size + 1
  # Padding behind a piece may lie past the row's pages. It reads the first one
  # there: a stranger's might hold NaN, which no weight of 0 undoes.
  own = jnp.minimum(table[:, :1], count - 1)
  table = jnp.concatenate([table, jnp.repeat(own, more, axis=1)], axis=1)
  done = threshold_attention.threshold_attention(
    q,
    pages.k,
    pages.v,
    jnp.where(table < count, table, own),
    positions[:, -1] + 1,
    jnp.full(q.shape[:3], -jnp.inf),
    implementation="triton",
  )
  return done.out


def attend_pages(
  q: Float[Array, "b s h d"],
  pages: cache.Pages,
  table: Int[Array, "b pages"],
  positions: Int[Array, "b s"],
  partition: partition_lib.Partition = _WHOLE,
  last: Int[Array, ""] | None = None,
) -> Float[Array, "b s h d"]:
  r"""Exact attention over a paged pool with a running softmax.

  $$o = \sum_j \mathrm{softmax}_j(q k_j / \sqrt d)\, v_j,
    \qquad j \le \mathrm{position}(q)$$

  The loop ends with the longest live row and holds one page per row; the
  context is never gathered.

  Args:
    q: rotated queries.
    pages: the layer's pool, the queries' own tokens included.
    table: page number of each row's i-th page; a number that no page has past
      its end, and for rows of nobody.
    positions: of the queries in their rows.
    partition: how ranks share the heads.
    last: position up to which pages are read, at least the largest of
      `positions`, which it is when omitted. Ranks that add scores up must agree
      on it, or some wait for others in a loop that those have left.

  Returns:
    The attended values, in the dtype of `q`.

  References:
    Milakov and Gimelshein, Online normalizer calculation, arXiv 1805.02867.
  """
  batch, length, heads, width = q.shape
  kv_heads, size = pages.v.shape[1], pages.page_size
  rows = _group_rows(q, kv_heads).reshape(batch, kv_heads, -1, width)
  groups = heads // kv_heads
  own = jnp.tile(positions, (1, groups))[:, None, :, None]
  written = positions.max(axis=1)[:, None, None, None]

  def body(index, carry):
    top, total, out = carry
    page = table[:, index]
    scores = partition.total_scores(_scores(rows, pages.k[page]))
    offset = (index * size + jnp.arange(size))[None, None, None, :]
    had = (page < len(pages.k))[:, None, None, None]
    scores = jnp.where(had & (offset <= own), scores, _MASKED)
    # Others may hold NaN, in slots not written yet and in pages that the row
    # does not have (of padding), and no weight of 0 undoes that.
    live = had & (offset.swapaxes(2, 3) <= written)
    v = jnp.where(live, pages.v[page], 0)
    new_top = jnp.maximum(top, scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores - new_top)
    shrink = jnp.exp(top - new_top)
    total = total * shrink + weights.sum(axis=-1, keepdims=True)
    out = out * shrink + _values(weights, v)
    return new_top, total, out

  shape = rows.shape[:3]
  init = (
    jnp.full((*shape, 1), _MASKED, jnp.float32),
    jnp.zeros((*shape, 1), jnp.float32),
    jnp.zeros((*shape, width), jnp.float32),
  )
  last = positions.max() if last is None else last
  count = jnp.minimum(last // size + 1, table.shape[1])
  _, total, out = jax.lax.fori_loop(0, count, body, init)
  out = (out / total).astype(q.dtype)
  out = out.reshape(batch, heads, length, width)
  return out.transpose(0, 2, 1, 3)


def _group_rows(
  q: Float[Array, "b s h d"], kv_heads: int
) -> Float[Array, "b k g s d"]:
  """Scales queries and gathers those of each key-value head."""
  batch, length, _, width = q.shape
  rows = q.reshape(batch, length, kv_heads, -1, width) * width**-0.5
  return rows.transpose(0, 2, 3, 1, 4)


def _scores(
  q: Float[Array, "b k r d"], k: Float[Array, "b k d t"]
) -> Float[Array, "b k r t"]:
  return jnp.einsum("bkrd,bkdt->bkrt", q, k, preferred_element_type="float32")


def _values(
  weights: Float[Array, "b k r t"], v: Float[Array, "b k t d"]
) -> Float[Array, "b k r d"]:
  weights = weights.astype(v.dtype)
  return jnp.einsum(
    "bkrt,bktd->bkrd", weights, v, preferred_element_type="float32"
  )
