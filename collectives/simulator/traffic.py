"""A schedule as arrays of messages, tick by tick."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from collectives import schedule as sched
from collectives.simulator import network as net


@dataclasses.dataclass
class Tick:
  """The messages of one tick, and how far they have come.

  Attributes:
    src: `[n]` ranks that send.
    dst: `[n]` ranks that receive.
    nbytes: `[n]` bytes on the wire.
    leaves: `[n]` whether they go to another node.
    latency: `[n]` seconds until their first byte is there.
    work: `[ranks]` seconds that each rank reduces once it has all it receives.
    degree: `[ranks]` messages of each rank, in and out.
    launch: seconds until a rank that comes here can begin.
    ready: `[n]` when the sender has heard that the receiver has come here.
    present: `[ranks]` which ranks have come here.
    under_way: messages that have not arrived yet.
  """

  src: np.ndarray
  dst: np.ndarray
  nbytes: np.ndarray
  leaves: np.ndarray
  latency: np.ndarray
  work: np.ndarray
  degree: np.ndarray
  launch: float
  ready: np.ndarray
  present: np.ndarray
  under_way: int


def ticks(
  schedule: sched.Schedule,
  network: net.Network,
  nbytes: float | int,
  wire: float | int,
) -> Iterator[Tick]:
  """Yields what travels in every tick.

  Args:
    schedule: what runs, over as many ranks as the network has.
    network: says which messages leave their node.
    nbytes: bytes of the whole buffer.
    wire: bytes on the wire between nodes for each byte of a message.
  """
  steps = schedule.steps
  starts = np.cumsum([0, *(len(phase.steps) for phase in schedule.phases)])
  each = nbytes / schedule.chunks / schedule.slots
  size = network.grid.size
  for pairs in schedule.timeline():
    src, dst, slots, reduced = (
      np.concatenate(part)
      for part in zip(
        *(sched.columns(steps[index]) for _, index in pairs), strict=True
      )
    )
    leaves = network.leaves(src, dst)
    payload = slots * each
    begins = any(chunk == 0 and index in starts for chunk, index in pairs)
    yield Tick(
      src,
      dst,
      payload * np.where(leaves, wire, 1.0),
      leaves,
      np.where(leaves, network.latency, network.local_latency),
      np.bincount(dst, payload * reduced, size) * network.gamma,
      np.bincount(np.concatenate([src, dst]), minlength=size),
      network.launch if begins else 0.0,
      np.zeros(len(src)),
      np.zeros(size, bool),
      len(src),
    )
