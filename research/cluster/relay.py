"""Carries packets between nodes, each as late as its link says.

Every node has a TUN device, whose other end is a file here: what the node sends
is read from the file, kept until it is due, and written to the file of the node
it is for.
"""

import collections
import ctypes
import os
import select
import time
from collections.abc import Sequence

HEADER = 10  # bytes of struct virtio_net_hdr before each packet
_MAX_PACKET = 65536 + HEADER
_PR_SET_TIMERSLACK = 29  # wake up on time, by default it may be 50 us late
_BATCH = 16  # packets of a node before the next one has its turn


class Ports:
  r"""When packets arrive, by the sizes and times of those before them.

  A packet leaves once its node has sent all before it, at `rate`, and arrives
  $\alpha$ later or, where the receiver is still busy with packets of other
  nodes, after those, again at `rate`.

  Example:
    >>> ports = Ports(3, alpha=1.0, rate=100.0)
    >>> ports.arrival(0.0, 0, 2, 50)  # half a second on the wire, one of alpha
    1.5
    >>> ports.arrival(0.0, 0, 2, 50)  # the sender's port was busy until 0.5
    2.0
    >>> ports.arrival(0.0, 1, 2, 50)  # the receiver's is until 2.0
    2.5
    >>> ports.arrival(0.0, 2, 1, 50)  # and sends at the same time
    1.5
  """

  def __init__(self, nodes: int, alpha: float, rate: float):
    self._alpha = alpha
    self._rate = rate  # bytes a second
    self._sent = [0.0] * nodes
    self._received = [0.0] * nodes

  def arrival(self, now: float, source: int, target: int, size: int) -> float:
    """Takes `size` bytes and returns when the last of them arrives."""
    wire = size / self._rate
    sent = self._sent[source] = max(now, self._sent[source]) + wire
    received = max(sent + self._alpha, self._received[target] + wire)
    self._received[target] = received
    return received


def run(
  devices: Sequence[int], ports: Ports, targets: dict[bytes, int], until: int
) -> None:
  """Relays packets until the file `until` ends.

  Args:
    devices: one non-blocking file per node, each packet with a header of
      `HEADER` bytes.
    ports: the model of the links.
    targets: the node of every IPv4 address; packets to others are dropped.
    until: a file to which nothing is written.
  """
  ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
  sources = {device: node for node, device in enumerate(devices)}
  # Arrivals at one node never overtake one another: a queue each.
  queues = [collections.deque[tuple[float, bytes]]() for _ in devices]
  files = [until, *devices]
  while True:
    # select waits for microseconds, epoll in Python only for milliseconds.
    ready, _, _ = select.select(files, [], [], _deliver(devices, queues))
    for file in ready:
      if file == until:
        return
      for packet in _read(file):
        target = targets.get(packet[HEADER + 16 : HEADER + 20])
        if target is None or packet[HEADER] >> 4 != 4:
          continue
        due = ports.arrival(
          time.monotonic(), sources[file], target, len(packet) - HEADER
        )
        queues[target].append((due, packet))


def _deliver(
  devices: Sequence[int],
  queues: Sequence[collections.deque[tuple[float, bytes]]],
) -> float | None:
  """Writes what is due; returns the seconds until something is, or None."""
  now = time.monotonic()
  next_due = float("inf")
  for device, queue in zip(devices, queues, strict=True):
    while queue and queue[0][0] <= now:
      try:
        os.write(device, queue.popleft()[1])
      except OSError:
        pass  # the node has closed its device or sent nonsense: a lost packet
    if queue:
      next_due = min(next_due, queue[0][0])
  if next_due == float("inf"):
    return None
  return max(0.0, next_due - time.monotonic())


def _read(device: int) -> list[bytes]:
  packets = []
  try:
    for _ in range(_BATCH):
      packets.append(os.read(device, _MAX_PACKET))
  except BlockingIOError:
    pass
  return packets
