"""The paged key-value pool: one donated pair of arrays per layer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from research.mesh import sharding
from research.transformer import config as config_lib


class Pages(NamedTuple):
  """One layer's pool.

  Attributes:
    k: `[page, kv_head, head_dim, slot]`, so that scores vectorise over slots.
    v: `[page, kv_head, slot, head_dim]`, so that outputs vectorise over
      `head_dim`.
  """

  k: jax.Array
  v: jax.Array

  @property
  def page_size(self) -> int:
    """Tokens a page holds."""
    return self.v.shape[2]


def make_pool(
  config: config_lib.DecoderConfig, *, num_pages: int, page_size: int
) -> list[Pages]:
  """Allocates an empty pool.

  Args:
    config: gives layers, heads, widths and dtype.
    num_pages: pages of each layer.
    page_size: tokens a page holds; 64 to 128 suits a CPU.

  Returns:
    A pair per layer, zeros.
  """
  heads, width = config.num_kv_heads, config.head_dim
  k_shape = (num_pages, heads, width, page_size)
  v_shape = (num_pages, heads, page_size, width)
  return [
    Pages(jnp.zeros(k_shape, config.dtype), jnp.zeros(v_shape, config.dtype))
    for _ in range(config.num_layers)
  ]


def pool_shardings(
  config: config_lib.DecoderConfig,
  mesh: jax.sharding.Mesh,
  rules: sharding.ShardingRules,
) -> list[Pages]:
  """Says how a pool lies on a mesh: by heads, their parts or stages.

  Args:
    config: gives layers, heads and widths.
    mesh: the devices.
    rules: from logical to mesh axes.

  Returns:
    A sharding in the place of each array of `make_pool`.
  """
  heads, width = config.num_kv_heads, config.head_dim
  place = lambda axes, shape: rules.sharding(axes, shape, mesh)
  pages = mesh.size  # any number that the stages of a pipeline divide
  k = place(("page", "kv_heads", "head_dim", "slot"), (pages, heads, width, 1))
  v = place(("page", "kv_heads", "slot", "head_dim"), (pages, heads, 1, width))
  return [Pages._make((k, v))] * config.num_layers


def contiguous_table(
  batch: int, *, tokens: int, page_size: int
) -> Int[Array, "b pages"]:
  """Gives every row its own run of pages.

  Args:
    batch: rows.
    tokens: the most tokens that a row will hold.
    page_size: tokens a page holds.

  Returns:
    The page number of each row's i-th page.

  Example:
    >>> contiguous_table(2, tokens=100, page_size=64).tolist()
    [[0, 1], [2, 3]]
  """
  pages = -(-tokens // page_size)
  return jnp.arange(batch * pages, dtype=jnp.int32).reshape(batch, pages)


def write_tokens(
  pages: Pages,
  table: Int[Array, "b pages"],
  positions: Int[Array, "b s"],
  k: Float[Array, "b s k d"],
  v: Float[Array, "b s k d"],
) -> Pages:
  """Writes tokens at any positions; those past the table are dropped.

  Args:
    pages: the layer's pool; donate it, and the write is in place.
    table: page number of each row's i-th page.
    positions: where each token goes in its row.
    k: rotated keys.
    v: values.

  Returns:
    The pool with the tokens in it.
  """
  page_index, slot = jnp.divmod(positions, pages.page_size)
  page = jnp.take_along_axis(
    table, page_index, axis=1, mode="fill", fill_value=pages.k.shape[0]
  )
  page, slot = page.reshape(-1), slot.reshape(-1)
  k, v = (x.reshape(-1, *x.shape[2:]) for x in (k, v))
  return Pages(
    pages.k.at[page, :, :, slot].set(k, mode="drop"),
    pages.v.at[page, :, slot, :].set(v, mode="drop"),
  )


def write_prefix(
  pages: Pages,
  table: Int[Array, "b pages"],
  k: Float[Array, "b s k d"],
  v: Float[Array, "b s k d"],
) -> Pages:
  """Writes rows that start at position 0, whole pages at a time.

  Args:
    pages: the layer's pool.
    table: page number of each row's i-th page.
    k: rotated keys; what does not fill the last page is padded with zeros.
    v: values.

  Returns:
    The pool with the rows in it.
  """
  size = pages.page_size
  count = -(-k.shape[1] // size)
  pad = ((0, 0), (0, count * size - k.shape[1]), (0, 0), (0, 0))
  k, v = (jnp.pad(x, pad).reshape(-1, size, *x.shape[2:]) for x in (k, v))
  page = table[:, :count].reshape(-1)
  return Pages(
    pages.k.at[page].set(k.transpose(0, 2, 3, 1), mode="drop"),
    pages.v.at[page].set(v.transpose(0, 2, 1, 3), mode="drop"),
  )
