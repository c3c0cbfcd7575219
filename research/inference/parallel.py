"""Where an engine's model lies, and how a step goes through it."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from research.inference import cached, request
from research.transformer import (
  attention,
  cache,
  checkpoints,
  decoder,
  pipeline,
  tensor_parallel,
)

_TENSOR = ("node", "local")


@runtime_checkable  # the tests' type checker looks with isinstance
class Layout(Protocol):
  """Where weights and pool lie; its methods but `forward` run on the host."""

  @property
  def exact(self) -> bool:
    """Whether drawn tokens leave the keys that a prompt's would leave."""
    ...

  def place(self, model: checkpoints.Model) -> checkpoints.Model:
    """Returns a model whose weights lie where they are used."""
    ...

  def make_pool(
    self,
    model: checkpoints.Model,
    *,
    num_pages: int,
    page_size: int,
    slots: int,
  ) -> list[Any]:
    """Allocates an empty pool for a placed model.

    Args:
      model: as `place` returned it.
      num_pages: pages of the pool.
      page_size: tokens a page holds.
      slots: sequences that run at once.

    Returns:
      Each layer's state of attention: its pages, or more.
    """
    ...

  def replicate(self, x: jax.Array) -> jax.Array:
    """Puts an array where every rank has it."""
    ...

  def wrap(self, step: Callable, placed: Any) -> Callable:
    """Makes `(weights, carried, batch) -> (answers, carried)` run everywhere.

    Args:
      step: what a rank does.
      placed: the first two arguments, as they lie.
    """
    ...

  def forward(
    self, bound: decoder.Decoder, batch: "Flat", pool: list[Any]
  ) -> tuple[Float[Array, "draws e"], list[Any]]:
    """Normed hidden states that answers come from, and the next pool."""
    ...


@dataclasses.dataclass(frozen=True)
class Flat:
  """What a step runs through the layers.

  Attributes:
    tokens: of decoding rows, then of blocks.
    positions: of the tokens.
    table: page number of each row's and each block's i-th page.
    ends: indices of the tokens behind which a token is drawn.
    slots: of each row's and each block's sequence.
    fresh: of each row, whether it is its sequence's first.
    rows: how many rows decode.
    length: tokens of each row.
  """

  tokens: Int[Array, " tokens"]
  positions: Int[Array, " tokens"]
  table: Int[Array, "places pages"]
  ends: Int[Array, " draws"]
  slots: Int[Array, " places"]
  fresh: Bool[Array, " rows"]
  rows: int
  length: int

  @property
  def blocks(self) -> int:
    """How many blocks there are."""
    return len(self.table) - self.rows

  def attend(
    self, table: Int[Array, "some pages"], rows: int, bound: decoder.Decoder
  ) -> attention.PagedGroups:
    """How rows attend, and blocks where there are any.

    Args:
      table: of a micro-batch.
      rows: how many of its places decode.
      bound: a rank's layers.
    """
    groups, of_rows = (2 if self.blocks else 1), self.rows * self.length
    parts = (self.positions[:of_rows], self.positions[of_rows:])[:groups]
    size = (len(self.tokens) - of_rows) // max(self.blocks, 1)
    # Stages have different micro-batches, and ranks of all of them take part in
    # each permute: where there is one a page, all go through as many pages.
    whole = bound.partition.whole_heads
    return attention.PagedGroups(
      tables=(table[:rows], table[rows:])[:groups],
      lengths=(self.length, size)[:groups],
      partition=bound.partition,
      lasts=None if whole else tuple(part.max() for part in parts),
    )


@dataclasses.dataclass(frozen=True)
class Alone:
  """Everything on one device.

  Attributes:
    attend: how drawn tokens attend; prompts are attended exactly.

  Raises:
    RequestError: if the attention learns from whole prompts.
  """

  attend: cached.CachedAttention = cached.Dense()

  def __post_init__(self) -> None:
    if self.attend.reads_prompts:
      raise request.RequestError(
        "attend: got one that learns from whole prompts, expected one that "
        "does not, for an engine reads them in pieces; set prompt_rows=0"
      )

  @property
  def exact(self) -> bool:
    """See `Layout`."""
    return self.attend.exact

  def place(self, model):
    """See `Layout`."""
    return model

  def make_pool(self, model, *, num_pages, page_size, slots):
    """See `Layout`."""
    pool = cache.make_pool(
      model.config, num_pages=num_pages, page_size=page_size
    )
    return cached.begin(self.attend, model.config, pool, slots)

  def replicate(self, x):
    """See `Layout`."""
    return x

  def wrap(self, step, placed):
    """See `Layout`."""
    del placed
    return step

  def forward(self, bound, batch, pool):
    """See `Layout`."""
    out = bound(
      batch.tokens[None],
      positions=batch.positions[None],
      attention=self._attend(bound, batch),
      states=pool,
    )
    return out.hidden[0, batch.ends], out.states

  def _attend(self, bound, batch) -> attention.Attention:
    groups = batch.attend(batch.table, batch.rows, bound)
    own = self.attend
    if isinstance(own, cached.Dense):
      return dataclasses.replace(groups, implementation=own.implementation)
    slots = batch.slots[: batch.rows]
    return cached.Slots(own, bound.config, groups, slots, batch.fresh)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
  """Matrices over (`node`, `local`), layers over `pipe`, or both.

  All ranks draw the same tokens from the same logits, so a job of several
  processes runs one engine in each of them, on the same requests.

  Attributes:
    mesh: with axes `node` and `local`, and `pipe` for a pipeline.
    algorithm: of the all-reduces, as `collectives.all_reduce` takes it.
    micro_batches: into how many a step is cut in a pipeline, where they divide
      its rows and blocks.
  """

  mesh: Mesh
  algorithm: str = "xla"
  micro_batches: int = 2

  @property
  def exact(self) -> bool:
    """See `Layout`."""
    return True

  @property
  def _stages(self) -> int:
    return self.mesh.shape.get(pipeline.AXIS, 1)

  def place(self, model):
    """See `Layout`."""
    if self._stages > 1:
      model = pipeline.stack(model, self._stages)
    return tensor_parallel.split(
      model, self.mesh, axes=_TENSOR, algorithm=self.algorithm
    )

  def make_pool(self, model, *, num_pages, page_size, slots):
    """See `Layout`."""
    del slots
    ranks = self.mesh.shape["node"] * self.mesh.shape["local"]
    rules = tensor_parallel.partition_of(model.config, _TENSOR, ranks).rules
    places = cache.pool_shardings(model.config, self.mesh, rules)
    make = lambda: cache.make_pool(
      model.config, num_pages=num_pages * self._stages, page_size=page_size
    )
    return jax.jit(make, out_shardings=places)()

  def replicate(self, x):
    """See `Layout`."""
    return jax.device_put(x, NamedSharding(self.mesh, PartitionSpec()))

  def wrap(self, step, placed):
    """See `Layout`."""
    weights, carried = jax.tree.map(lambda leaf: leaf.sharding.spec, placed)
    same = PartitionSpec()
    return jax.shard_map(
      step,
      mesh=self.mesh,
      in_specs=(weights, carried, same),
      out_specs=(same, carried),
      check_vma=False,  # it cannot know that schedules end alike on all ranks
    )

  def forward(self, bound, batch, pool):
    """See `Layout`."""
    if self._stages == 1:
      return Alone().forward(bound, batch, pool)
    count = self.micro_batches
    if batch.rows % count or batch.blocks % count:
      count = 1
    of_rows = batch.rows * batch.length
    tables = _pile(batch.table, batch.rows, count)
    out, pool = pipeline.residual(
      bound,
      bound.embed(_pile(batch.tokens, of_rows, count))[:, None],
      _pile(batch.positions, of_rows, count)[:, None],
      lambda micro: batch.attend(tables[micro], batch.rows // count, bound),
      pool,
    )
    parts = jnp.split(out[:, 0], [of_rows // count], axis=1)
    flat = jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in parts])
    return bound.norm(pipeline.from_last(flat[batch.ends])), pool


def _pile(x: jax.Array, of_rows: int, count: int) -> jax.Array:
  """Cuts what belongs to rows, and what to blocks, into micro-batches."""
  parts = x[:of_rows], x[of_rows:]
  piles = [part.reshape(count, -1, *x.shape[1:]) for part in parts]
  return jnp.concatenate(piles, axis=1)
