"""What of the engine is timed, and on which links."""

import dataclasses

from collectives import algorithms
from experiments.tools import inference_cases, timed_collectives
from research.cluster import network as network_lib
from research.runs import errors


@dataclasses.dataclass(kw_only=True)
class Job:
  """A model that answers batches on one emulated network.

  Attributes:
    name: of the model, for readers.
    network: as `research.cluster.network.parse` reads it; processes of a node.
    devices: ranks of each process.
    model: a short name of `experiments.models`; empty for a random decoder.
    layers: how many it has, or how many of its first ones are kept.
    width: of a random decoder.
    batch: requests, which all run at once.
    pieces: tokens of prompts that a step reads.
    reading: tokens that a request reads + draws in prefill-heavy work; empty to
      leave it out.
    drawing: the same in decode-heavy work.
    cases: `inference_cases.STRATEGIES` with all-reduces, `tp:nvrar`.
    iters: batches a round.
    warmup: batches before them that do not count.
    rounds: how often all of it is started anew.
  """

  name: str
  network: str = "4x1,alpha=1ms,bw=1Gb"
  devices: int = 2
  model: str = ""
  layers: int = 2
  width: int = 4096
  batch: int = 16
  pieces: int = 256
  reading: str = "128+2"
  drawing: str = "16+16"
  cases: tuple[str, ...]
  iters: int = 12
  warmup: int = 1
  rounds: int = 1

  @property
  def grid(self) -> network_lib.Network:
    """The network, read."""
    return network_lib.parse(self.network)

  @property
  def works(self) -> dict[str, inference_cases.Work]:
    """What requests ask for, by what it is heavy in."""
    named = {"prefill": self.reading, "decode": self.drawing}
    return {
      kind: inference_cases.parse_work(text)
      for kind, text in named.items()
      if text
    }

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    try:
      self._check_parts()
    except ValueError as error:
      raise errors.UserError(f"engine {self.name}: {error}") from error
    block = timed_collectives.BLOCK
    if self.iters < 1 or self.iters % block or self.warmup < 1:
      raise errors.UserError(
        f"engine {self.name}: got iters={self.iters}, warmup={self.warmup}, "
        f"expected a multiple of {block}, and one at least"
      )

  def _check_parts(self) -> None:
    grid = self.grid
    if grid.nodes < 2 or not grid.alpha > 0:
      raise ValueError(
        f"got the network {self.network!r}, expected two nodes at least and a "
        "latency above zero"
      )
    if not self.works:
      raise ValueError("got no work, expected reading, drawing or both")
    for case in self.cases:
      strategy, _, algorithm = case.partition(":")
      if strategy not in inference_cases.STRATEGIES:
        raise ValueError(
          f"got the case {case!r}, expected one of "
          f"{', '.join(inference_cases.STRATEGIES)} with an all-reduce, "
          "such as tp:nvrar"
        )
      if algorithm != "xla":
        algorithms.find(algorithm, "all_reduce")
