"""The experiment's settings; sizes are in `configs/`."""

import dataclasses

from collectives import algorithms as algorithms_lib
from experiments import emulated_links
from experiments.multinode_inference import engine_config, modelled_study
from experiments.tools import timed_collectives
from research.cluster import network
from research.runs import config, errors

_K = 1024
_ALL = ("xla", *algorithms_lib.names("all_reduce"))

#: Those that one would choose from, and those that NCCL has.
MAIN = (
  *("xla", "ring", "double_tree", "recursive_doubling", "rabenseifner"),
  *("nvrar", "pccl_recursive"),
)


@dataclasses.dataclass(kw_only=True)
class Links:
  """What is timed on one emulated network.

  Attributes:
    network: as `research.cluster.network.parse` reads it.
    sizes: bytes of a rank's buffer; none to leave the network out.
    algorithms: all-reduces by name, `"xla"` among them or not.
    iters: calls a round.
    warmup: calls before them that do not count.
    rounds: how often all of it is started anew.
    peers: names of `emulated_links.PEERS`.
  """

  network: str
  sizes: tuple[int, ...] = ()
  algorithms: tuple[str, ...] = _ALL
  iters: int = 20
  warmup: int = 2
  rounds: int = 1
  peers: tuple[str, ...] = ()

  @property
  def grid(self) -> network.Network:
    """The network, read."""
    return network.parse(self.network)

  def scaled(self, size: int) -> float:
    """Returns M β / α: a size in the bytes that one latency is worth."""
    return 8 * size / self.grid.bandwidth / self.grid.alpha

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    try:
      grid = self.grid
      for name in self.algorithms:
        if name != "xla":
          algorithms_lib.find(name, "all_reduce")
    except ValueError as error:
      raise errors.UserError(f"links: {error}") from error
    if grid.nodes < 2 or not grid.alpha > 0:
      raise errors.UserError(
        f"links.network: got {self.network!r}, expected two nodes at least "
        "and a latency above zero"
      )
    block = timed_collectives.BLOCK
    if self.iters < 1 or self.iters % block:
      raise errors.UserError(
        f"links.iters: got {self.iters}, expected a multiple of {block}"
      )
    for peer in self.peers:
      if peer not in emulated_links.PEERS:
        raise errors.UserError(
          f"links.peers: got {peer!r}, expected some of "
          f"{', '.join(emulated_links.PEERS)}"
        )


@dataclasses.dataclass(kw_only=True)
class Accuracy:
  """Settings of the study of rounding, which needs no links.

  Attributes:
    ranks: numbers of ranks, powers of two; nodes hold `local` of them.
    headline_ranks: the number at which claims are judged.
    local: ranks of a node.
    numbers: length of the vectors.
    draws: how many times they are drawn.
  """

  ranks: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
  headline_ranks: int = 64
  local: int = 2
  numbers: int = 4096
  draws: int = 4

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    if self.headline_ranks not in self.ranks:
      raise errors.UserError(
        f"accuracy.headline_ranks: got {self.headline_ranks}, expected one of "
        f"ranks={self.ranks}"
      )
    for ranks in self.ranks:
      if ranks % self.local or ranks & (ranks - 1):
        raise errors.UserError(
          f"accuracy.ranks: got {ranks}, expected a power of two and a "
          f"multiple of local={self.local}"
        )


@dataclasses.dataclass(kw_only=True)
class Config(config.ExperimentConfig):
  """Settings of the studies of collectives and of the engine.

  Attributes:
    headline: the network at which the speed is judged first.
    fast: the network of long, wide links at which it is judged too.
    more: networks with links like the headline's, for the model.
    held_out_sizes: sizes of the headline that the model is not fitted on.
    accuracy: settings of the study of rounding.
    modelled: what is simulated of the paper's machines.
    engine: what of the engine is timed.
  """

  headline: Links = dataclasses.field(
    default_factory=lambda: Links(network="4x2,alpha=1ms,bw=1Gb")
  )
  fast: Links = dataclasses.field(
    default_factory=lambda: Links(network="4x2,alpha=5ms,bw=10Gb")
  )
  more: tuple[Links, ...] = ()
  held_out_sizes: tuple[int, ...] = (256 * _K, 1024 * _K)
  accuracy: Accuracy = dataclasses.field(default_factory=Accuracy)
  modelled: modelled_study.Modelled = dataclasses.field(
    default_factory=modelled_study.Modelled
  )
  engine: tuple[engine_config.Job, ...] = ()

  @property
  def links(self) -> tuple[Links, ...]:
    """All networks on which anything is timed."""
    every = (self.headline, self.fast, *self.more)
    return tuple(one for one in every if one.sizes)

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    for one in (self.headline, self.fast, *self.more):
      one.check()
    if not self.headline.sizes:
      raise errors.UserError(
        "headline.sizes: got none, expected one size at least"
      )
    for size in self.held_out_sizes:
      if size not in self.headline.sizes:
        raise errors.UserError(
          f"held_out_sizes: got {size}, expected some of headline.sizes="
          f"{self.headline.sizes}"
        )
    self.accuracy.check()
    self.modelled.check()
    for job in self.engine:
      job.check()
