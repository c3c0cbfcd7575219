"""Two levels of links: ranks within nodes, network cards between nodes."""

import dataclasses

import jaxtyping
import numpy as np

from collectives import schedule as sched

Ints = jaxtyping.Int[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class Network:
  """A network whose every port sends and receives at the same time.

  Messages between nodes share the cards at both ends, messages within a node
  the ranks' own ports, max-min fairly; the fabric between is not a bottleneck.

  Attributes:
    grid: nodes, and ranks of a node.
    latency: seconds from one node to another.
    bandwidth: bytes a second of a card, each way.
    local_latency: seconds from one rank to another of its node.
    local_bandwidth: bytes a second between a rank and its node, each way.
    cards: network cards of a node; rank i of L has card `i * cards // L`.
    gamma: seconds to reduce a byte.
    launch: seconds that a rank needs to begin a phase (a kernel launch).
  """

  grid: sched.Grid
  latency: float | int
  bandwidth: float | int
  local_latency: float | int
  local_bandwidth: float | int
  cards: int = 1
  gamma: float | int = 0.0
  launch: float | int = 0.0

  def __post_init__(self):
    if not 1 <= self.cards <= self.grid.local:
      raise ValueError(
        f"cards: got {self.cards}, expected 1 to {self.grid.local}, as many "
        "as a node has ranks at most"
      )

  def leaves(self, src: Ints, dst: Ints) -> jaxtyping.Bool[np.ndarray, "n"]:
    """Says which messages go to another node."""
    return src // self.grid.local != dst // self.grid.local

  def ports(self, rank: Ints, leaves: jaxtyping.Bool[np.ndarray, "n"]) -> Ints:
    """Numbers the port that a message uses at one of its ends.

    First come the ranks' own ports, then the cards. Both directions are counted
    alike; they are different resources.
    """
    node, place = np.divmod(rank, self.grid.local)
    card = node * self.cards + place * self.cards // self.grid.local
    return np.where(leaves, self.grid.size + card, rank)

  def capacities(self) -> jaxtyping.Float[np.ndarray, "ports"]:
    """Bytes a second of every port."""
    return np.repeat(
      [self.local_bandwidth, self.bandwidth],
      [self.grid.size, self.grid.nodes * self.cards],
    )
