"""Emulated links between the nodes of a job on one machine.

`start()` brings up a network and checks that it is as asked for; commands from
`Links.inside` then run on one of its nodes. Each node has its own network
stack, hostname (`node0`, `node1`, ...) and address, no way out, and a port of
the wanted latency and bandwidth; processes of one node talk over its loopback.

What takes part:
- a process (`research.cluster.fabric`) which holds the namespaces and carries
  every packet. It ends with this process, however that ends, and kills what
  still runs on the nodes; with them the kernel removes all the rest. Only when
  both are killed at once may a daemon that a command has started live on.
- the commands, which enter the namespaces of their node
  (`research.cluster.namespaces`) and run as the user who started them.

It needs Linux, `ip` of iproute2, /dev/net/tun, and the right to make
namespaces: root's, or everybody's where the kernel allows user namespaces.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from research.cluster import children, link_probe, namespaces, network

#: A round trip or bandwidth further than this from the request is an error.
TOLERANCE = 0.15

_CHECKED_FROM = 1e-3  # seconds of alpha: below, wake-ups of processes show
_ATTEMPTS = 4
_TRANSFER_SECONDS = 0.1
_PATIENCE = 60.0


class UnavailableError(Exception):
  """This machine cannot emulate links, for the reason given."""


class OffTargetError(Exception):
  """The links came up but are not as asked for."""


@dataclasses.dataclass(frozen=True)
class Measured:
  """What the link from node 0 to node 1 does.

  Attributes:
    round_trip: seconds, the lower quartile of many.
    bandwidth: bits a second, that of the fastest of a few transfers.
  """

  round_trip: float
  bandwidth: float

  def near(self, wanted: network.Network) -> bool:
    """Tells whether both are within `TOLERANCE` of what was asked for."""
    return (
      abs(self.round_trip / (2 * wanted.alpha) - 1) <= TOLERANCE
      and abs(self.bandwidth / wanted.bandwidth - 1) <= TOLERANCE
    )

  def __str__(self) -> str:
    return (
      f"round trip {self.round_trip * 1e3:.3g} ms,"
      f" {self.bandwidth / 1e9:.3g} Gb/s"
    )


class Links:
  """A running network; `start` makes one.

  Attributes:
    network: what was asked for.
  """

  def __init__(self, wanted: network.Network):
    """Brings up the network.

    Raises:
      UnavailableError: this machine cannot.
    """
    self.network = wanted
    self._nets: list[str] = []
    try:
      self._fabric = subprocess.Popen(
        [sys.executable, "-m", "research.cluster.fabric", str(wanted)],
        stdin=subprocess.PIPE,  # its end is the end of the network
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # signals from a terminal are not for it
      )
      assert self._fabric.stdout is not None
      answer = json.loads(self._fabric.stdout.readline() or "{}")
    except OSError as error:
      raise UnavailableError(str(error)) from error
    if "namespaces" not in answer:
      self.close()
      raise UnavailableError(answer.get("unavailable", "it ended at once"))
    self._namespaces: list[list[str]] = answer["namespaces"]
    self._nets = answer["nets"]

  def inside(self, node: int, command: Sequence[str]) -> list[str]:
    """Returns `command`, wrapped so that it runs on a node."""
    return namespaces.entering(self._namespaces[node], command)

  def broken(self) -> bool:
    """Tells whether the process that carries the packets has ended."""
    return self._fabric.poll() is not None

  def check(self) -> Measured | None:
    """Measures the links, and again if they are not as asked for.

    Below 1 ms they are only measured: there the time in which a process wakes
    up shows, and the request is not what one gets.

    Returns:
      What was measured, None for a network of one node.

    Raises:
      OffTargetError: several attempts were off by more than `TOLERANCE`.
    """
    wanted = self.network
    if wanted.nodes == 1:
      return None
    measured = []
    for _ in range(_ATTEMPTS):
      measured.append(self._measure())
      if wanted.alpha < _CHECKED_FROM or measured[-1].near(wanted):
        return measured[-1]
    load = os.getloadavg()[0]
    raise OffTargetError(
      f"got {'; '.join(map(str, measured))} over the emulated link; expected"
      f" {Measured(2 * wanted.alpha, wanted.bandwidth)} within"
      f" {TOLERANCE:.0%}; the load is {load:.1f} on {os.cpu_count()} cores:"
      " try again when it is quieter, or ask for a lower bw or a higher alpha"
    )

  def _measure(self) -> Measured:
    """Measures the link from node 0 to node 1, which is as all others."""
    rate = self.network.bandwidth / 8
    size = int(max(rate * _TRANSFER_SECONDS, 1 << 19))
    target = network.address(1)
    with (
      self._probe(1, "serve", target) as server,
      self._probe(0, "measure", target, str(size)) as client,
    ):
      try:
        out, err = client.communicate()
      finally:
        server.kill()
    if client.returncode != 0:
      said = err.strip().splitlines()[-1:] or ["it said nothing"]
      raise OffTargetError(
        f"got no answer from node 1 over the emulated link ({said[0]});"
        " expected one within seconds; try again when the machine is quieter"
      )
    times = json.loads(out)
    trips = sorted(times["round_trips"])
    trip = trips[len(trips) // 4]
    bits = 8 * size / (min(times["transfers"]) - trip)
    return Measured(trip, bits)

  def _probe(self, node: int, *arguments: str) -> subprocess.Popen[str]:
    script = [sys.executable, "-I", "-S", link_probe.__file__, *arguments]
    return subprocess.Popen(
      self.inside(node, children.dying_with_parent(script)),
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  def close(self) -> None:
    """Ends the network and whatever still runs on its nodes."""
    assert self._fabric.stdin is not None
    assert self._fabric.stdout is not None
    self._fabric.stdin.close()
    try:
      self._fabric.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
      self._fabric.kill()
      self._fabric.wait()
    self._fabric.stdout.close()
    namespaces.kill_inside(self._nets)  # nothing, unless the fabric was killed


@contextlib.contextmanager
def start(wanted: network.Network) -> Iterator[Links]:
  """Brings up a network, checks it, and ends it with the context.

  Raises:
    UnavailableError: this machine cannot emulate links.
    OffTargetError: they are not as asked for.
  """
  links = Links(wanted)
  try:
    yield links
  finally:
    links.close()
