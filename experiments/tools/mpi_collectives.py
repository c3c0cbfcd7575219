"""Times Open MPI's collectives on the links of `bench_collectives`.

  python -m experiments.tools.mpi_collectives --network=4x2,alpha=1ms,bw=1Gb \
    --algorithms=recursive_doubling,ring,segmented_ring,rabenseifner,default

Flags, columns and conventions are those of `bench_collectives`, except that the
ranks are those of the network, with no mesh, and that buffers are allocated
once, as is usual with MPI. The kernel's TCP settings belong to the network, so
they are the same; Open MPI's own are its defaults (see `--eager`). Between
nodes it uses TCP, within a node shared memory, which is faster than the
loopback that JAX's processes use there: compare 4x1, or keep it in mind.

`default` is what Open MPI takes if nobody asks, which over several nodes of
several ranks is its hierarchical component; `tuned` is what its flat one takes.
The other names pick an algorithm of `tuned`, which takes another one where it
has to: a ring needs an element a rank, recursive halving a power of two.

Exit codes are those of `research.cluster.launch` where links cannot be had, or
Open MPI cannot: 69.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments.tools import (
  bench_collectives,
  open_mpi,
  rivals,
  timed_collectives,
)
from research import runs
from research.cluster import emulation, launch, network
from research.runs import errors, experiment

_NETWORK = flags.DEFINE_string(
  "network", "4x2,alpha=1ms,bw=1Gb", "Emulated nodes, processes and links."
)
_EAGER = flags.DEFINE_string(
  "eager",
  None,
  "The largest message that Open MPI sends without asking the receiver first,"
  " such as 1M; its own choice is 64K.",
)


@dataclasses.dataclass(frozen=True)
class Bench(timed_collectives.Bench):
  """Open MPI in the place of JAX.

  Attributes:
    links: the network it runs on.
    python: that of the peers.
    eager: see the flag; None for Open MPI's own choice.
  """

  links: emulation.Links
  python: str
  eager: int | None

  @property
  def processes(self) -> int:
    """Ranks, each of which is a process."""
    return self.links.network.num_processes

  @property
  def transport(self) -> str:
    """What carries the messages."""
    _, version = open_mpi.find(self.python)
    eager = "" if self.eager is None else f", up to {self.eager} bytes eagerly"
    return (
      f"Open MPI {version}, {self.processes} processes, over emulated links"
      f" {self.links.network} by TCP{eager}, shared memory within a node"
    )

  def rows(self, sizes: Sequence[int]) -> Iterator[timed_collectives.Row]:
    """Times all algorithms at each size, and checks what they give.

    Args:
      sizes: bytes, of which the whole elements of equal shares are taken.
    """
    request = {
      "collective": self.collective,
      "op": self._op,
      "dtype": self.dtype,
      "counts": [self._count(size) for size in sizes],
      "warmup": self.warmup,
      "iters": self.iters,
      "algorithms": {
        name: open_mpi.settings(self.collective, name)
        for name in self.algorithms
      },
    }
    for answer in open_mpi.answers(
      self.links, self.python, request, eager=self.eager
    ):
      yield from self._answered(answer)

  def _answered(
    self, answer: dict[str, Any]
  ) -> Iterator[timed_collectives.Row]:
    for name in self.algorithms:
      yield self._row(
        f"openmpi:{name}",
        answer["count"],
        np.asarray(answer["seconds"][name]),
        answer["wrong"][name],
      )


def main(argv: Sequence[str]) -> int:
  """Brings up the network and times all sizes on it."""
  del argv
  try:
    return _run()
  except open_mpi.MissingError as error:
    experiment.report_user_error(error)
    return launch.UNAVAILABLE
  except errors.UserError as error:
    return experiment.report_user_error(error)


def _run() -> int:
  python = rivals.python()
  open_mpi.find(python)
  settings = bench_collectives.settings()
  how = ("collective", "algorithms", "dtype", "op")
  open_mpi.check(**{name: settings[name] for name in how})
  if flags.FLAGS["mesh"].present:
    raise errors.UserError("got --mesh, expected none: --network says the grid")
  try:
    wanted = network.parse(_NETWORK.value)
    text = _EAGER.value
    eager = None if text is None else timed_collectives.parse_bytes(text)
  except ValueError as error:
    raise errors.UserError(str(error)) from error
  shape = {"node": wanted.nodes, "local": wanted.per_node}

  def job(links: emulation.Links) -> int:
    bench = Bench(
      **settings, shape=shape, links=links, python=python, eager=eager
    )
    bench_collectives.report(bench, first=True)
    return 0

  return launch.on_links(wanted, job)


if __name__ == "__main__":
  flags.FLAGS.set_default("algorithms", [open_mpi.DEFAULT])
  runs.launch(main)
