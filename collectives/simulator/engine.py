"""Discrete events: messages leave, flow and arrive; ranks go on at their pace.

A rank takes part in one tick after another. It posts its messages, waits until
all that it sends and receives have arrived, reduces, and goes on. A message
leaves when both its ranks are ready. What happens to many ranks at the same
time is one event on arrays, so symmetrical schedules need about as many events
as they have steps.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np

from collectives import schedule as sched
from collectives.simulator import flows, traffic
from collectives.simulator import network as net


@dataclasses.dataclass(frozen=True)
class Result:
  """How long a schedule takes.

  Attributes:
    finished: `[ranks]` seconds at which each rank is done.
    events: how many events there were.
  """

  finished: jaxtyping.Float[np.ndarray, "ranks"]
  events: int

  @property
  def seconds(self) -> float:
    """When the last rank is done."""
    return float(self.finished.max())


def simulate(
  schedule: sched.Schedule,
  network: net.Network,
  nbytes: float | int,
  *,
  rendezvous: bool = False,
  low_latency: bool = False,
) -> Result:
  """Simulates a schedule; all ranks begin at the same time.

  Args:
    schedule: what runs.
    network: the links, with as many ranks; for a flat schedule it says which of
      them share a node.
    nbytes: bytes of the whole buffer: gathered in an all-gather, not yet
      scattered in a reduce-scatter.
    rendezvous: the sender has to hear that the receiver is ready, which takes
      one latency more if the receiver is not early (gloo does so).
    low_latency: a flag goes with every four bytes, which doubles the bytes
      between nodes (the LL protocols of NCCL and NVRAR).

  Raises:
    ValueError: if the network has another number of ranks.

  Example:
    >>> from collectives import algorithms
    >>> ring = algorithms.find("ring", "all_gather")
    >>> links = net.Network(sched.Grid(4), 1e-6, 1e9, 0.0, 1e9)
    >>> done = simulate(ring.schedule("all_gather", links.grid), links, 4000)
    >>> round(done.seconds * 1e6, 3)  # 3 steps of 1 us and 1000 bytes
    6.0
  """
  if network.grid.size != schedule.grid.size:
    raise ValueError(
      f"network: got {network.grid.size} ranks, expected "
      f"{schedule.grid.size}, those of the schedule {schedule.name}"
    )
  wire = 2.0 if low_latency else 1.0
  return _Simulation(
    traffic.ticks(schedule, network, nbytes, wire), network, rendezvous
  ).run()


class _Simulation:
  """The state of all ranks, messages and timers."""

  def __init__(
    self,
    source: Iterator[traffic.Tick],
    network: net.Network,
    rendezvous: bool,
  ):
    self._source, self._network = source, network
    self._rendezvous = rendezvous
    size = network.grid.size
    self._ticks: dict[int, traffic.Tick] = {}
    self._loaded = 0  # ticks that the source has yielded
    self._now = 0.0
    self._at = np.full(size, -1)  # the tick of each rank
    self._pending = np.zeros(size, int)  # messages that it waits for there
    self._finished = np.zeros(size)
    self._timers: list[tuple[float, int, str, int, np.ndarray]] = []
    self._order = itertools.count()
    self._capacities = network.capacities()
    self._flows = np.zeros((0, 4), int)  # tick, number in it, tx, rx
    self._left = np.zeros(0)  # bytes that each of them has still to send
    self._rates = np.zeros(0)

  def run(self) -> Result:
    """Runs until nothing moves."""
    self._next_tick(np.arange(len(self._at)))
    events = 0
    while self._timers or len(self._flows):
      self._advance()
      events += 1
    return Result(self._finished, events)

  def _advance(self) -> None:
    """Goes to the next time at which a timer ends or a message is through."""
    ends = self._now + self._left / self._rates
    timer = self._timers[0][0] if self._timers else np.inf
    now = min(float(ends.min(initial=np.inf)), timer)
    until = now * (1 + flows.SAME)
    through = ends <= until
    self._left = np.maximum(self._left - self._rates * (now - self._now), 0)
    self._now = now
    changed = bool(through.any())
    if changed:
      gone = self._flows[through]
      keep = ~through
      self._flows, self._left = self._flows[keep], self._left[keep]
      for tick, which in _groups(gone[:, 0], gone[:, 1]):
        self._arrive(tick, which)
    while self._timers and self._timers[0][0] <= until:
      _, _, kind, tick, who = heapq.heappop(self._timers)
      if kind == "flow":
        self._flow(tick, who)
        changed = True
      elif kind == "enter":
        self._enter(tick, who)
      else:
        self._next_tick(who)
    if changed:
      self._rates = flows.rates(
        self._flows[:, 2], self._flows[:, 3], self._capacities
      )

  def _after(self, delays, kind: str, tick: int, who: np.ndarray) -> None:
    """Sets a timer for each group of `who` that has the same delay."""
    delays = np.broadcast_to(delays, who.shape)
    for delay, group in _groups(delays, who):
      entry = (self._now + delay, next(self._order), kind, tick)
      heapq.heappush(self._timers, (*entry, group))

  def _next_tick(self, ranks: np.ndarray) -> None:
    """Ranks that are done with a tick begin the next one, or end."""
    self._at[ranks] += 1
    for number, group in _groups(self._at[ranks], ranks):
      tick = self._load(number)
      if tick is None:
        self._finished[group] = self._now
      elif tick.launch:
        self._after(tick.launch, "enter", number, group)
      else:
        self._enter(number, group)

  def _load(self, number: int) -> traffic.Tick | None:
    """Returns a tick, if there are so many."""
    if number == self._loaded:
      tick = next(self._source, None)
      if tick is not None:
        self._ticks[number] = tick
        self._loaded += 1
    return self._ticks.get(number)

  def _enter(self, number: int, ranks: np.ndarray) -> None:
    """Ranks post their messages of a tick."""
    tick = self._ticks[number]
    here = np.zeros(len(self._at), bool)
    here[ranks] = True
    sends, receives = here[tick.src], here[tick.dst]
    self._pending[ranks] = tick.degree[ranks]
    tick.ready[receives] = self._now + tick.latency[receives]
    tick.present[ranks] = True
    both = tick.present[tick.src] & tick.present[tick.dst]
    leave = np.flatnonzero(both & (sends | receives))
    delay = tick.latency[leave]
    if self._rendezvous:
      delay = delay + np.maximum(tick.ready[leave] - self._now, 0)
    self._after(delay, "flow", number, leave)
    self._go_on(number, ranks[self._pending[ranks] == 0])

  def _flow(self, number: int, which: np.ndarray) -> None:
    """The first byte of messages is there: the rest follows."""
    tick = self._ticks[number]
    leaves = tick.leaves[which]
    new = np.stack(
      [
        np.full(len(which), number),
        which,
        self._network.ports(tick.src[which], leaves),
        self._network.ports(tick.dst[which], leaves),
      ],
      axis=1,
    )
    self._flows = np.concatenate([self._flows, new])
    self._left = np.concatenate([self._left, tick.nbytes[which]])

  def _arrive(self, number: int, which: np.ndarray) -> None:
    """Messages have arrived: both ends have one less to wait for."""
    tick = self._ticks[number]
    tick.under_way -= len(which)
    ends = np.concatenate([tick.src[which], tick.dst[which]])
    done = np.bincount(ends, minlength=len(self._at))
    self._pending -= done
    ranks = np.flatnonzero(done)
    self._go_on(number, ranks[self._pending[ranks] == 0])

  def _go_on(self, number: int, ranks: np.ndarray) -> None:
    """Ranks have all that they wait for; they reduce it and go on."""
    tick = self._ticks[number]
    self._after(tick.work[ranks], "next", number, ranks)
    if tick.present.all() and not tick.under_way:
      del self._ticks[number]


def _groups(
  keys: np.ndarray, values: np.ndarray
) -> Iterator[tuple[Any, np.ndarray]]:
  """Yields each key, in order, with its values; mostly there is one."""
  if len(keys) and (keys == keys[0]).all():
    yield keys[0].item(), values
    return
  for key in np.unique(keys).tolist():
    yield key, values[keys == key]
