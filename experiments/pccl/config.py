"""The experiment's settings; sizes are in `configs/`."""

import dataclasses

from collectives import algorithms as algorithms_lib
from collectives import schedule as sched
from experiments.pccl import modelled_config
from experiments.tools import timed_collectives
from research.cluster import network
from research.runs import config, errors

#: What training kinds do with an algorithm.
USES: dict[str, tuple[sched.Collective, ...]] = {
  "ddp": ("all_reduce",),
  "zero3": ("all_gather", "reduce_scatter"),
}


@dataclasses.dataclass(kw_only=True)
class Sweep:
  """One collective on one emulated network.

  Attributes:
    collective: `all_gather`, `reduce_scatter` or `all_reduce`.
    network: as `research.cluster.network.parse` reads it.
    sizes: bytes of the larger buffer of a rank, M.
    algorithms: by name; empty for `"xla"` and all that there are.
    iters: calls a round.
    warmup: calls before them that do not count.
    rounds: how often all of it is started anew.
    devices: ranks of each process.
  """

  collective: sched.Collective
  network: str
  sizes: tuple[int, ...]
  algorithms: tuple[str, ...] = ()
  iters: int = 8
  warmup: int = 1
  rounds: int = 1
  devices: int = 1

  @property
  def names(self) -> tuple[str, ...]:
    """The algorithms."""
    every = ("xla", *algorithms_lib.names(self.collective))
    return self.algorithms or every

  @property
  def grid(self) -> network.Network:
    """The network, read."""
    return network.parse(self.network)

  def scaled(self, size: float | int) -> float:
    """Returns M β / α: a size in the bytes that one latency is worth."""
    return 8 * size / self.grid.bandwidth / self.grid.alpha

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    try:
      grid = self.grid
      for name in self.names:
        if name != "xla":
          algorithms_lib.find(name, self.collective)
    except ValueError as error:
      raise errors.UserError(f"sweeps: {error}") from error
    if grid.nodes < 2 or not grid.alpha > 0 or not self.sizes:
      raise errors.UserError(
        f"sweeps: got {self.network!r} and sizes {self.sizes}, expected two "
        "nodes at least, a latency above zero and a size"
      )
    _check_iters("sweeps", self.iters)


@dataclasses.dataclass(kw_only=True)
class Training:
  """Steps of training on one emulated network.

  Attributes:
    network: as `research.cluster.network.parse` reads it.
    cases: what to train with, such as `zero3:pccl_recursive`.
    layers: of the decoder; two at least, for XLA writes a loop of one out and
      then gathers its layer once.
    width: of the decoder.
    row_tokens: tokens of the one row that a rank has.
    iters: steps a round.
    warmup: steps before them that do not count.
    rounds: how often all of it is started anew.
    devices: ranks of each process.
  """

  network: str
  cases: tuple[str, ...]
  layers: int = 4
  width: int = 64
  row_tokens: int = 32
  iters: int = 8
  warmup: int = 1
  rounds: int = 1
  devices: int = 1

  @property
  def grid(self) -> network.Network:
    """The network, read."""
    return network.parse(self.network)

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    for case in self.cases:
      kind, _, name = case.partition(":")
      if kind not in USES:
        raise errors.UserError(
          f"training.cases: got {case!r}, expected {' or '.join(USES)}, a "
          "colon and an algorithm"
        )
      try:
        for collective in USES[kind]:
          if name != "xla":
            algorithms_lib.find(name, collective)
      except ValueError as error:
        raise errors.UserError(f"training.cases: {case}: {error}") from error
    _check_iters("training", self.iters)


@dataclasses.dataclass(kw_only=True)
class Config(config.ExperimentConfig):
  """Settings of the study.

  Attributes:
    sweeps: latency by size; those of the first one's network are the headline.
    training: steps by algorithm.
    modelled: what is simulated of Frontier.
  """

  sweeps: tuple[Sweep, ...]
  training: Training
  modelled: modelled_config.Modelled = dataclasses.field(
    default_factory=modelled_config.Modelled
  )

  @property
  def headline(self) -> str:
    """The network at which the speed is judged first."""
    return self.sweeps[0].network

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    for sweep in self.sweeps:
      sweep.check()
    places = [(sweep.collective, sweep.network) for sweep in self.sweeps]
    if not places or len(set(places)) < len(places):
      raise errors.UserError(
        f"sweeps: got {places}, expected one at least and each once"
      )
    self.training.check()
    self.modelled.check()


def _check_iters(name: str, iters: int) -> None:
  block = timed_collectives.BLOCK
  if iters < 1 or iters % block:
    raise errors.UserError(
      f"{name}.iters: got {iters}, expected a multiple of {block}"
    )
