"""How a generation attends: to prompts, and then step by step."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from research.transformer import attention, cache
from research.transformer import config as config_lib


@runtime_checkable  # the tests' type checker looks with isinstance
class CachedAttention(Protocol):
  """Attention that remembers, a state of its own in every layer.

  Its methods run while a step is traced. A state may be any pytree; the pages
  in it stay `cache.Pages`, which are split over devices as the model is, and
  all other leaves lie whole on each, rows first. States are donated from step
  to step. In an engine a layer has one `cache.Pages`, and rows of nobody have
  numbers in the table that no page has.
  """

  @property
  def exact(self) -> bool:
    """Whether drawn tokens leave the keys that a prompt's would leave."""
    ...

  @property
  def reads_prompts(self) -> bool:
    """Whether states depend on prompts, which `prefill` must have whole."""
    ...

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
  """Exact attention; a layer's state is its pages.

  Attributes:
    implementation: of `attention.attend_cached`.
  """

  implementation: str | None = None
  exact: bool = dataclasses.field(default=True, init=False)
  reads_prompts: bool = dataclasses.field(default=False, init=False)

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
    return attention.PagedDecode(table, implementation=self.implementation)


@dataclasses.dataclass(frozen=True)
class Slots:
  """A step of an engine: rows by a `CachedAttention`, prompts exactly.

  A row's state lies in its sequence's slot. Pieces of prompts leave states
  alone.

  Attributes:
    attend: how rows attend.
    config: the decoder's.
    groups: of rows, and of blocks where there are any.
    slots: of each row; one past the last for nobody, `[rows]`.
    fresh: whether a row is its sequence's first, `[rows]`.
  """

  attend: CachedAttention
  config: config_lib.DecoderConfig
  groups: attention.PagedGroups
  slots: jax.Array
  fresh: jax.Array

  def __call__(self, layer, q, k, v, positions, state):
    """See `attention.Attention`."""
    parts = (self.groups.split(x) for x in (q, k, v, positions))
    (row, *blocks), tables = zip(*parts, strict=True), self.groups.tables
    query, key, value, at = row
    # Everything is written before anything is read, so that nothing is copied.
    for table, (_, k, v, positions) in zip(tables[1:], blocks, strict=True):
      state = _write(state, table, positions, k, v)
    decode = self.attend.decode(tables[0])
    out, new = decode(layer, query, key, value, at, self._take(layer, state))
    outs, (pages,) = [out], _pages(new)
    for table, (q, _, _, positions) in zip(tables[1:], blocks, strict=True):
      outs.append(attention.attend_cached(q, pages, table, positions))
    keep = lambda old, own: old.at[self.slots].set(own, mode="drop")
    return attention.join(outs), _map_states(keep, state, new)

  def _take(self, layer: int, state: Any) -> Any:
    """Returns the rows' states, new ones for those that are fresh.

    Rows of nobody have another's: a new state may ask for more work.
    """
    pool = _pages(state) * self.config.num_layers
    empty = self.attend.init(self.config, pool, len(self.slots))[layer]

    def own(old, start):
      first = self.slots[0] % len(old)  # it may be nobody's too
      found = old[jnp.where(self.slots < len(old), self.slots, first)]
      fresh = self.fresh.reshape(-1, *(1,) * (old.ndim - 1))
      return jnp.where(fresh, start, found)

    return _map_states(own, state, empty)


def begin(
  attend: CachedAttention,
  config: config_lib.DecoderConfig,
  pool: list[cache.Pages],
  slots: int,
) -> list[Any]:
  """Returns each layer's first state, made of arrays that can be donated.

  Args:
    attend: whose states.
    config: the decoder's.
    pool: each layer's pages.
    slots: rows of the states.
  """
  copy = lambda x, _: jnp.copy(x)  # one array may be in several places
  states = attend.init(config, pool, slots)
  return [_map_states(copy, state, state) for state in states]


def _is_pages(x: Any) -> bool:
  return isinstance(x, cache.Pages)


def _pages(state: Any) -> list[cache.Pages]:
  """The pages in a layer's state."""
  return list(filter(_is_pages, jax.tree.leaves(state, is_leaf=_is_pages)))


def _write(state: Any, *tokens: jax.Array) -> Any:
  """Writes tokens into the pages of a layer's state."""
  either = lambda x: cache.write_tokens(x, *tokens) if _is_pages(x) else x
  return jax.tree.map(either, state, is_leaf=_is_pages)


def _map_states(change: Callable, old: Any, new: Any) -> Any:
  """Changes all but the pages, which are the new ones."""
  either = lambda x, y: y if _is_pages(x) else change(x, y)
  return jax.tree.map(either, old, new, is_leaf=_is_pages)


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
  place = lambda x: shardings[0] if _is_pages(x) else whole
  return jax.tree.map(place, states, is_leaf=_is_pages)
