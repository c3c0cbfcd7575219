"""How a generation attends: to a prompt at once, then step by step."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Int

from research.transformer import attention, cache
from research.transformer import config as config_lib


@runtime_checkable  # the tests' type checker looks with isinstance
class CachedAttention(Protocol):
  """Attention that remembers, a state of its own in every layer.

  Its methods run while a step is traced. A state may be any pytree; the pages
  in it stay `cache.Pages`, which are split over devices as the model is, and
  all other leaves lie whole on each. States are donated from step to step.
  """

  def init(
    self,
    config: config_lib.DecoderConfig,
    pool: list[cache.Pages],
    batch: int,
  ) -> list[Any]:
    """Returns each layer's state before its prompts: nothing is remembered.

    Args:
      config: the decoder's.
      pool: each layer's pages.
      batch: rows.
    """
    ...

  def prefill(
    self, table: Int[Array, "b pages"], lengths: Int[Array, " b"]
  ) -> attention.Attention:
    """Returns how to attend to prompts, which start at position 0.

    Args:
      table: page number of each row's i-th page.
      lengths: of the prompts, which are padded to the longest.
    """
    ...

  def decode(self, table: Int[Array, "b pages"]) -> attention.Attention:
    """Returns how to attend the next tokens of each row.

    Args:
      table: page number of each row's i-th page.
    """
    ...


@dataclasses.dataclass(frozen=True)
class Dense:
  """Exact attention; a layer's state is its pages."""

  def init(self, config, pool, batch: int) -> list[cache.Pages]:
    """See `CachedAttention`."""
    del config, batch
    return pool

  def prefill(self, table, lengths) -> attention.PagedPrefill:
    """See `CachedAttention`."""
    del lengths
    return attention.PagedPrefill(table)

  def decode(self, table) -> attention.PagedDecode:
    """See `CachedAttention`."""
    return attention.PagedDecode(table)


def place_states(
  attend: CachedAttention,
  config: config_lib.DecoderConfig,
  shardings: list[cache.Pages],
  mesh: jax.sharding.Mesh,
) -> list[Any]:
  """Says how states lie on a mesh.

  Args:
    attend: whose states.
    config: the decoder's.
    shardings: of the pages, from `cache.pool_shardings`.
    mesh: the devices.

  Returns:
    A sharding in the place of each array of `attend.init`.
  """
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  make = lambda: cache.make_pool(config, num_pages=1, page_size=1)
  states = jax.eval_shape(lambda: attend.init(config, make(), 1))
  is_pages = lambda x: isinstance(x, cache.Pages)
  return jax.tree.map(
    lambda x: shardings[0] if is_pages(x) else whole, states, is_leaf=is_pages
  )
