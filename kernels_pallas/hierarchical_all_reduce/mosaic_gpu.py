"""NVRAR for the GPUs of one peer-to-peer domain: bulk puts and semaphores."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Int32

from kernels_pallas.hierarchical_all_reduce import instructions, words
from kernels_pallas.hierarchical_all_reduce import plan as plans

MOST_BLOCKS = 64  # few enough to be resident together: they wait for peers


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the words of a part are divided.

  Attributes:
    blocks: of threads; each talks to that of the same number on its peers.
    tiles: that each block moves in turn.
  """

  blocks: int
  tiles: int

  @property
  def words(self) -> int:
    """Words of a part, padding included."""
    return self.blocks * self.tiles * instructions.TILE

  def each(self, move: Callable[[Any], None]) -> None:
    """Calls a function with every slice of words of this block."""
    first = lax.axis_index("block") * self.tiles

    def body(i, carry):
      move(pl.ds((first + i) * instructions.TILE, instructions.TILE))
      return carry

    lax.fori_loop(0, self.tiles, body, None)


def divide(count: int, local: int) -> Layout:
  """Divides words into parts, blocks and tiles.

  Args:
    count: words in all.
    local: parts.

  Returns:
    As many blocks as there are tiles, up to 64.
  """
  tiles = max(1, -(-count // (local * instructions.TILE)))
  blocks = min(MOST_BLOCKS, tiles)
  return Layout(blocks, -(-tiles // blocks))


def all_reduce(
  parts: Int32[Array, "local words"],
  plan: plans.Plan,
  axes: tuple[str, ...],
  *,
  layout: Layout,
  dtype: str,
) -> Int32[Array, "local words"]:
  """Sums words over mesh axes; for use inside `shard_map`.

  A put goes straight into the peer's memory, and one semaphore for each message
  and block says that it has all arrived. XLA starts the kernel behind a barrier
  of all its GPUs, so that slots are free and semaphores zero by then; at the
  end nothing is under way, since every device waits for all that it is sent.

  Args:
    parts: the input, divided by local rank.
    plan: who sends what to whom.
    axes: of nodes, if any, and of the local ranks of a node.
    layout: from `divide`.
    dtype: of the numbers in the words.

  Returns:
    The sum.
  """
  messages = len(plan.exchanges)

  def kernel(x_ref, total_ref, slot_ref, arrived):
    wire = _Puts(layout, axes, dtype, x_ref, total_ref, slot_ref, arrived)
    plan.run(wire, plans.Rank.here(axes))

  total, _ = plgpu.kernel(
    kernel,
    out_type=[
      jax.ShapeDtypeStruct(parts.shape, jnp.int32),
      jax.ShapeDtypeStruct((max(1, messages), layout.words), jnp.int32),
    ],
    scratch_types=[plgpu.SemaphoreType.REGULAR((max(1, messages),))],
    grid=(layout.blocks,),
    grid_names=("block",),
  )(parts)
  return total


@dataclasses.dataclass(frozen=True)
class _Puts:
  """Stores into a peer's memory, each message followed by a signal."""

  layout: Layout
  axes: tuple[str, ...]
  dtype: str
  x: Any
  total: Any
  slots: Any
  arrived: Any

  def start(self, part: Any) -> None:
    def copy(where):
      self.total[part, where] = _load(self.x.at[part], where)

    self.layout.each(copy)

  def send(self, exchange: plans.Exchange, to: plans.Rank, part: Any) -> None:
    gathered = exchange.phase == "gather"
    kept = self.total.at[part] if gathered else self.slots.at[exchange.index]
    sent = (self.x if exchange.phase == "scatter" else self.total).at[part]
    peer = to.place(self.axes)
    number = instructions.logical(peer)

    def put(where):
      instructions.put_words(kept.at[where], _load(sent, where), number)

    self.layout.each(put)
    pl.semaphore_signal(self.arrived.at[exchange.index], device_id=peer)

  def receive(
    self, exchange: plans.Exchange, source: plans.Rank, part: Any
  ) -> None:
    del source
    pl.semaphore_wait(self.arrived.at[exchange.index])
    total, slot = self.total.at[part], self.slots.at[exchange.index]

    def take(where):
      got = _load(slot, where)
      if exchange.phase != "unfold":
        got = words.add(_load(total, where), got, self.dtype)
      total[where] = got

    if exchange.phase != "gather":
      self.layout.each(take)


def _load(ref: Any, where: Any) -> jax.Array:
  return plgpu.load(ref, where, layout=instructions.QUADS)
