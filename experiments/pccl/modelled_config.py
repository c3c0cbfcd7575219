"""Settings of what is modelled: Frontier, which is not at hand."""

import dataclasses

from experiments import dispatched
from research.runs import errors

GCDS = 8  # of a node of Frontier


@dataclasses.dataclass(kw_only=True)
class Modelled:
  """What is simulated.

  Attributes:
    ranks: GCDs, ascending; claims are judged at the last.
    sizes: bytes of the whole buffer, ascending.
    map_ranks: GCDs of the map of ring and recursive; none to leave it out.
    map_sizes: bytes likewise.
    ring: whether figures show PCCL's ring on all GCDs, which takes seconds to
      simulate.
    models: whose training steps are modelled, of `step_traffic.MODELS`.
    assumed: factors by which the constants that no source states are changed,
      to see what hangs on them.
    choice: machines on which the dispatcher is judged.
  """

  ranks: tuple[int, ...] = (128, 256, 512, 1024, 2048)
  sizes: tuple[int, ...] = tuple(16 << 20 << i for i in range(6))
  map_ranks: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024, 2048)
  map_sizes: tuple[int, ...] = tuple(1 << i for i in range(18, 31))
  ring: bool = True
  models: tuple[str, ...] = ("7b", "13b")
  assumed: tuple[float, ...] = (0.5, 2.0)
  choice: tuple[dispatched.Machine, ...] = ()

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    for ranks in (*self.ranks, *self.map_ranks):
      if ranks % GCDS or ranks < 2 * GCDS:
        raise errors.UserError(
          f"modelled.ranks: got {ranks}, expected a multiple of {GCDS}, the "
          "GCDs of a node, and two nodes at least"
        )
    if not self.ranks or not self.sizes:
      raise errors.UserError(
        f"modelled: got ranks {self.ranks} and sizes {self.sizes}, expected "
        "one of each at least"
      )
