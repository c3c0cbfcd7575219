"""NVRAR as data: who sends which part to whom, whatever carries it.

The kernel for GPUs, its twin for the interpreter and the reference all follow a
`Plan`, so that what is checked of one holds for the order of the others.
"""

import dataclasses
import functools
import itertools
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from jax import lax
from jax.experimental import pallas as pl

Phase = Literal["scatter", "fold", "double", "unfold", "gather"]


class Rank(NamedTuple):
  """A device's place; numbers, or scalars that JAX traces."""

  node: Any
  local: Any

  @classmethod
  def here(cls, axes: tuple[str, ...]) -> "Rank":
    """This device's along (node, local), or along the ranks of one node."""
    *node, local = map(lax.axis_index, axes)
    return cls(node[0] if node else 0, local)

  def place(self, axes: tuple[str, ...]) -> dict[str, Any]:
    """Its index along each axis."""
    return dict(zip(axes, self[-len(axes) :], strict=True))


@dataclasses.dataclass(frozen=True)
class Exchange:
  """One message of each device, all at once.

  Attributes:
    index: its own semaphore, and its own slot on the receiver.
    phase: what the message is.
    hop: to how many local ranks or nodes further on; when doubling, the bit in
      which the two nodes differ.
  """

  index: int
  phase: Phase
  hop: int


@runtime_checkable
class Wire(Protocol):
  """What moves data; holds the input and the sum of a device's own part."""

  def start(self, part: Any) -> None:
    """Begins the sum with the device's own input."""

  def send(self, exchange: Exchange, to: Rank, part: Any) -> None:
    """Sends a part: of the input when scattering, else of the sum."""

  def receive(self, exchange: Exchange, source: Rank, part: Any) -> None:
    """Waits; adds to the sum, replaces it, or places what is gathered."""


@dataclasses.dataclass(frozen=True)
class Plan:
  """NVRAR over nodes and their local ranks.

  Every local rank takes care of one part: it adds up the part within its node,
  then over the nodes by recursive doubling, and hands it to its node. Nodes
  past the largest power of two give their sum to another and are given the
  result.

  Attributes:
    nodes: how many.
    local: devices of each.
    phases: those that are carried out; the others are somebody else's.

  Example:
    >>> [(e.phase, e.hop) for e in Plan(nodes=4, local=2).exchanges]
    [('scatter', 1), ('double', 1), ('double', 2), ('gather', 1)]
  """

  nodes: int
  local: int
  phases: tuple[Phase, ...] = typing.get_args(Phase)

  @property
  def core(self) -> int:
    """Nodes that take part in the doubling."""
    return 1 << (self.nodes.bit_length() - 1)

  @functools.cached_property
  def stages(self) -> tuple[tuple[Exchange, ...], ...]:
    """Exchanges that do not wait for one another, in order."""
    hops = range(1, self.local)
    steps = range(self.core.bit_length() - 1)
    folded = self.core < self.nodes
    stages: list[list[tuple[Phase, int]]] = [
      [("scatter", hop) for hop in hops],
      [("fold", self.core)] * folded,
      *([("double", 1 << step)] for step in steps),
      [("unfold", self.core)] * folded,
      [("gather", hop) for hop in hops],
    ]
    count = itertools.count()
    return tuple(
      tuple(Exchange(next(count), phase, hop) for phase, hop in stage)
      for stage in stages
      if stage and stage[0][0] in self.phases
    )

  @property
  def exchanges(self) -> tuple[Exchange, ...]:
    """All exchanges, in order."""
    return tuple(exchange for stage in self.stages for exchange in stage)

  def target(self, exchange: Exchange, rank: Rank) -> Rank:
    """Whom a device sends to."""
    return self._partner(exchange, rank, forward=True)

  def source(self, exchange: Exchange, rank: Rank) -> Rank:
    """Whom a device hears from."""
    return self._partner(exchange, rank, forward=False)

  def _partner(self, exchange: Exchange, rank: Rank, *, forward: bool) -> Rank:
    node, local = rank
    if exchange.phase in ("scatter", "gather"):
      hop = exchange.hop if forward else self.local - exchange.hop
      return Rank(node, (local + hop) % self.local)
    if exchange.phase == "double":
      return Rank(node ^ exchange.hop, local)
    inwards = (exchange.phase == "fold") == forward
    return Rank(node - self.core if inwards else node + self.core, local)

  def sends(self, exchange: Exchange, rank: Rank) -> Any:
    """Whether a device sends; a traced boolean where it depends on the node."""
    return self._takes_part(exchange, rank, outside=exchange.phase == "fold")

  def hears(self, exchange: Exchange, rank: Rank) -> Any:
    """Whether a device receives."""
    return self._takes_part(exchange, rank, outside=exchange.phase == "unfold")

  def _takes_part(self, exchange: Exchange, rank: Rank, *, outside: bool):
    if exchange.phase in ("scatter", "gather") or self.core == self.nodes:
      return True
    if exchange.phase == "double":
      return rank.node < self.core
    return (
      rank.node >= self.core
      if outside
      else (rank.node < self.nodes - self.core)
    )

  def run(self, wire: Wire, rank: Rank) -> None:
    """Carries out a device's side of the plan.

    Args:
      wire: what moves the data.
      rank: the device's.
    """
    own = rank.local
    wire.start(own)
    for stage in self.stages:
      for exchange in stage:
        to = self.target(exchange, rank)
        part = to.local if exchange.phase == "scatter" else own
        send = functools.partial(wire.send, exchange, to, part)
        _when(self.sends(exchange, rank), send)
      for exchange in stage:
        source = self.source(exchange, rank)
        part = source.local if exchange.phase == "gather" else own
        receive = functools.partial(wire.receive, exchange, source, part)
        _when(self.hears(exchange, rank), receive)


def _when(condition: Any, do: Callable[[], None]) -> None:
  if isinstance(condition, bool):
    if condition:
      do()
  else:
    pl.when(condition)(do)
