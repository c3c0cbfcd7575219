"""NVRAR for one peer-to-peer domain with the LL protocol: no semaphores.

Every word travels in a cell of 8 bytes beside a flag, by one store that no
reader can see half of. The flag is the number of the call, so that what an
earlier call left behind never counts as arrived. A receiver acknowledges a slot
once it has read it, and only the *next* call waits for that before it writes
the slot again: nothing is waited for at the end of a call.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Int32

from kernels_pallas.hierarchical_all_reduce import (
  instructions,
  mosaic_gpu,
  words,
)
from kernels_pallas.hierarchical_all_reduce import plan as plans


class State(NamedTuple):
  """What lies between two calls; one for every array that is in flight.

  Attributes:
    cells: of all slots, words beside flags.
    read: by message and block, the last call in which the receiver read it.
    last: the number of the last call; 0 before the first.
  """

  cells: jax.Array
  read: jax.Array
  last: jax.Array


def start(plan: plans.Plan, layout: mosaic_gpu.Layout) -> State:
  """The state before the first call; zeros, by which no call goes."""
  messages = max(1, len(plan.exchanges))
  return State(
    jnp.zeros((messages, layout.words, 2), jnp.int32),
    jnp.zeros((messages, layout.blocks), jnp.int32),
    jnp.zeros((1,), jnp.int32),
  )


def all_reduce(
  parts: Int32[Array, "local words"],
  state: State,
  plan: plans.Plan,
  axes: tuple[str, ...],
  *,
  layout: mosaic_gpu.Layout,
  dtype: str,
) -> tuple[Int32[Array, "local words"], State]:
  """Sums words over mesh axes; for use inside `shard_map`.

  Args:
    parts: the input, divided by local rank.
    state: from `start`, or from the call before; donate it.
    plan: who sends what to whom.
    axes: of nodes, if any, and of the local ranks of a node.
    layout: that of the state.
    dtype: of the numbers in the words.

  Returns:
    The sum, and the state for the next call.
  """
  call = jnp.where(state.last == -1, 1, state.last + 1)  # 0 is an unused cell
  cells, read = jax.new_ref(state.cells), jax.new_ref(state.read)

  def kernel(x_ref, call_ref, last_ref, cells_ref, read_ref, total_ref):
    wire = _Cells(
      layout,
      axes,
      dtype,
      (call_ref[0], last_ref[0]),
      x_ref,
      total_ref,
      cells_ref,
      read_ref,
    )
    plan.run(wire, plans.Rank.here(axes))

  # `plgpu.kernel` takes no references that are aliased in and out.
  reduce: Callable[..., Any] = pl.kernel(
    kernel,
    out_type=[jax.ShapeDtypeStruct(parts.shape, jnp.int32)],
    mesh=plgpu.Mesh(grid=(layout.blocks,), grid_names=("block",)),
  )
  (total,) = reduce(parts, call, state.last, cells, read)
  return total, State(cells[...], read[...], call)


@dataclasses.dataclass(frozen=True)
class _Cells:
  """Stores cells into a peer's memory, and polls those in its own."""

  layout: mosaic_gpu.Layout
  axes: tuple[str, ...]
  dtype: str
  calls: tuple[Any, Any]
  x: Any
  total: Any
  cells: Any
  read: Any

  def start(self, part: Any) -> None:
    def copy(where):
      self.total[part, where] = _load(self.x, part, where)

    self.layout.each(copy)

  def send(self, exchange: plans.Exchange, to: plans.Rank, part: Any) -> None:
    call, last = self.calls
    block = lax.axis_index("block")
    instructions.wait_until_equal(self.read.at[exchange.index, block], last)
    sent = self.x if exchange.phase == "scatter" else self.total
    peer = instructions.logical(to.place(self.axes))

    def put(where):
      kept = self.cells.at[exchange.index, where]
      instructions.put_cells(kept, _load(sent, part, where), call, peer)

    self.layout.each(put)

  def receive(
    self, exchange: plans.Exchange, source: plans.Rank, part: Any
  ) -> None:
    call, _ = self.calls

    def take(where):
      have = _load(self.total, part, where)
      got = instructions.poll_cells(
        self.cells.at[exchange.index, where], have, call
      )
      if exchange.phase not in ("gather", "unfold"):
        got = words.add(have, got, self.dtype)
      self.total[part, where] = got

    self.layout.each(take)
    peer = instructions.logical(source.place(self.axes))
    block = lax.axis_index("block")
    instructions.acknowledge(self.read.at[exchange.index, block], call, peer)


def _load(ref: Any, part: Any, where: Any) -> jax.Array:
  return plgpu.load(ref, (part, where), layout=instructions.SINGLES)
