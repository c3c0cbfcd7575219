"""The kernel's twin: the same plan on Pallas's interpreter for TPUs.

Mosaic GPU's interpreter knows no peers. That for TPUs does, on host devices,
and detects races between them; a remote copy with its semaphore takes the place
of the stores and the signal of `mosaic_gpu`. Who waits for what, and which slot
a message lies in, is the same code (`plan.Plan.run`).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Int32

from kernels_pallas.hierarchical_all_reduce import plan as plans
from kernels_pallas.hierarchical_all_reduce import words


@dataclasses.dataclass(frozen=True)
class Copies:
  """Copies into a peer's memory, each with a semaphore there.

  Attributes:
    axes: of nodes, if any, and of the local ranks of a node.
    dtype: of the numbers in the words.
    x: the input, by part.
    total: the sum, by part.
    slots: where messages arrive.
    sent: semaphores of this side, one for each message.
    arrived: semaphores of the receiver.
  """

  axes: tuple[str, ...]
  dtype: str
  x: Any
  total: Any
  slots: Any
  sent: Any
  arrived: Any

  def slot(self, exchange: plans.Exchange) -> int:
    """The slot of a message on its receiver."""
    return exchange.index

  def start(self, part: Any) -> None:
    """Begins the sum with the device's own input."""
    self.total[part] = self.x[part]

  def send(self, exchange: plans.Exchange, to: plans.Rank, part: Any) -> None:
    """Copies a part to a peer; returns once it may be changed."""
    scatters = exchange.phase == "scatter"
    copy = self._copy(exchange, (self.x if scatters else self.total), part, to)
    copy.start()
    copy.wait_send()

  def receive(
    self, exchange: plans.Exchange, source: plans.Rank, part: Any
  ) -> None:
    """Waits for a peer's copy, and adds it up or keeps it."""
    self.arrive(self._copy(exchange, self.total, part, source))
    self.take(exchange, part)

  def arrive(self, copy: Any) -> None:
    """Waits for a peer's copy."""
    copy.wait_recv()

  def take(self, exchange: plans.Exchange, part: Any) -> None:
    """Uses what has arrived; what is gathered is in its place already."""
    slot = self.slot(exchange)
    if exchange.phase == "unfold":
      self.total[part] = self.slots[slot]
    elif exchange.phase != "gather":
      self.total[part] = words.add(
        self.total[part], self.slots[slot], self.dtype
      )

  def _copy(self, exchange, source, part, peer):
    gathers = exchange.phase == "gather"
    there = (
      self.total.at[part] if gathers else self.slots.at[self.slot(exchange)]
    )
    return pltpu.make_async_remote_copy(
      source.at[part],
      there,
      self.sent.at[exchange.index],
      self.arrived.at[exchange.index],
      device_id=tuple(peer.place(self.axes).values()),
      device_id_type=pl.DeviceIdType.MESH,
    )


def all_reduce(
  parts: Int32[Array, "local words"],
  plan: plans.Plan,
  axes: tuple[str, ...],
  *,
  dtype: str,
  wire: type[Copies] = Copies,
) -> Int32[Array, "local words"]:
  """Sums words over the axes of the mesh.

  Args:
    parts: the input, divided by local rank.
    plan: who sends what to whom.
    axes: of nodes, if any, and of the local ranks of a node.
    dtype: of the numbers in the words.
    wire: what moves data; mutants have their own.

  Returns:
    The sum.
  """
  messages = max(1, len(plan.exchanges))

  def kernel(x_ref, total_ref, slot_ref, sent, arrived):
    _begin_together(plan, axes)
    moves = wire(axes, dtype, x_ref, total_ref, slot_ref, sent, arrived)
    plan.run(moves, plans.Rank.here(axes))

  return pl.pallas_call(
    kernel,
    out_shape=jax.ShapeDtypeStruct(parts.shape, jnp.int32),
    scratch_shapes=[
      pltpu.VMEM((messages, parts.shape[1]), jnp.int32),
      pltpu.SemaphoreType.DMA((messages,)),
      pltpu.SemaphoreType.DMA((messages,)),
    ],
    compiler_params=pltpu.CompilerParams(collective_id=0),
  )(parts)


def _begin_together(plan: plans.Plan, axes: tuple[str, ...]) -> None:
  """The barrier behind which XLA starts the kernel on GPUs."""
  barrier = pltpu.get_barrier_semaphore()
  for node in range(plan.nodes):
    for local in range(plan.local):
      pl.semaphore_signal(
        barrier,
        device_id=tuple(plans.Rank(node, local).place(axes).values()),
        device_id_type=pl.DeviceIdType.MESH,
      )
  pl.semaphore_wait(barrier, plan.nodes * plan.local)
