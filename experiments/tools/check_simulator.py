"""Compares our simulator with SimGrid on the same network.

  python -m experiments.tools.check_simulator

prints what SimGrid said when it was recorded (`tests/golden/simgrid.json`),
what we say, and how far apart they are; `--record` asks SimGrid again (minutes;
the system's package libsimgrid-dev) and rewrites the file.

Half of the cases are SimGrid's own collectives, written by others: MPICH's and
Open MPI's algorithms. Of the others SimGrid has none like ours, so it sends the
messages of our schedules over its own network model.
"""

import json
import pathlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from absl import flags

from collectives import algorithms, simulator
from collectives import schedule as sched
from experiments.tools import simgrid
from research import runs
from research.runs import experiment

_RECORD = flags.DEFINE_bool("record", False, "Ask SimGrid again.")

GOLDEN = pathlib.Path("tests/golden/simgrid.json")
RANKS = (8, 12, 64, 256)
#: Of whole buffers; all ranks have equally many float32 of each.
SIZES = tuple(3072 * factor for factor in (1, 8, 64, 256, 1024, 2048))

# SimGrid's name for the algorithm, and whether it pairs the same ranks as ours
# where that matters, as in nodes of several ranks: its Rabenseifner halves with
# the nearest rank first, we with the farthest.
_NATIVE: dict[tuple[str, sched.Collective], tuple[str, bool]] = {
  ("ring", "all_reduce"): ("lr", True),
  ("recursive_doubling", "all_reduce"): ("rdb", True),
  ("rabenseifner", "all_reduce"): ("rab_rdb", True),
  ("ring", "all_gather"): ("NTSLR", True),
  ("bruck", "all_gather"): ("bruck", True),
  ("recursive", "all_gather"): ("rdb", True),
  ("ring", "reduce_scatter"): ("ompi_ring", True),
  ("recursive", "reduce_scatter"): ("ompi_basic_recursivehalving", True),
}
# Those that fold if the ranks are no power of two. SimGrid folds neighbours
# (and its all-gather does not fold), we fold the first ranks with the last.
_FOLDED = ("recursive_doubling", "rabenseifner", "recursive")
_SENT: tuple[tuple[str, sched.Collective, bool], ...] = (
  ("double_tree", "all_reduce", False),
  ("nvrar", "all_reduce", True),
  ("hierarchical_tree", "all_reduce", True),
  ("pccl_ring", "all_gather", True),
  ("pccl_recursive", "all_gather", True),
  ("pccl_recursive", "reduce_scatter", True),
)
_SHARED = 4  # ranks that share a node's card, where some do


class Case(NamedTuple):
  """One algorithm on one grid.

  Attributes:
    algorithm: our name.
    collective: what it computes.
    native: SimGrid's name, or None if it sends our schedule's messages.
    nodes: nodes, each with one card.
    local: ranks of a node.
  """

  algorithm: str
  collective: sched.Collective
  native: str | None
  nodes: int
  local: int

  @property
  def network(self) -> simulator.Network:
    """The links: 12.5 GB/s and 2 us between nodes, 50 GB/s and 0.5 us in."""
    grid = sched.Grid(self.nodes, self.local)
    return simulator.Network(grid, 2e-6, 12.5e9, 0.5e-6, 50e9)

  @property
  def schedule(self) -> sched.Schedule:
    """Our schedule."""
    found = algorithms.find(self.algorithm, self.collective)
    return found.schedule(self.collective, self.network.grid)


def cases() -> Iterator[Case]:
  """Yields all that is compared."""
  for ranks in RANKS:
    folds = ranks & (ranks - 1) != 0
    shared = ranks // _SHARED, _SHARED
    for (name, collective), (native, same) in _NATIVE.items():
      if not (folds and native == "rdb" and collective == "all_gather"):
        yield Case(name, collective, native, ranks, 1)
      if same and not (folds and name in _FOLDED):
        yield Case(name, collective, native, *shared)
    for name, collective, two_levels in _SENT:
      grid = shared if two_levels else (ranks, 1)
      yield Case(name, collective, None, *grid)


def record() -> dict[str, Any]:
  """Asks SimGrid about every case."""
  rows = []
  version = simgrid.version()
  with tempfile.TemporaryDirectory() as folder:
    program = simgrid.build(pathlib.Path(folder))
    for case in cases():
      what = case.collective if case.native else case.schedule
      seconds = simgrid.run(program, case.network, what, SIZES, case.native)
      rows.append({**case._asdict(), "seconds": seconds})
      print(json.dumps(rows[-1]), flush=True)
  return {"version": version, "bytes": SIZES, "rows": rows}


def load() -> Iterator[tuple[Case, int, float]]:
  """Yields cases, bytes, and the seconds that SimGrid said."""
  recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
  for row in recorded["rows"]:
    seconds = row.pop("seconds")
    for nbytes, value in zip(recorded["bytes"], seconds, strict=True):
      yield Case(**row), nbytes, value


def deviations(
  rows: Sequence[tuple[Case, int, float]],
) -> list[tuple[Case, int, float, float]]:
  """Simulates what SimGrid was asked; adds our seconds to each row."""
  schedules = {case: case.schedule for case, _, _ in rows}
  return [
    (
      case,
      nbytes,
      theirs,
      simulator.simulate(schedules[case], case.network, nbytes).seconds,
    )
    for case, nbytes, theirs in rows
  ]


def main(argv: Sequence[str]) -> int:
  """Prints the table."""
  del argv
  if _RECORD.value:
    try:
      text = json.dumps(record()).replace('{"algorithm', '\n{"algorithm')
    except simgrid.Missing as error:
      return experiment.report_user_error(error)
    GOLDEN.write_text(text + "\n", encoding="utf-8")
  off = []
  for case, nbytes, theirs, ours in deviations(list(load())):
    off.append(abs(ours / theirs - 1))
    print(
      f"{case.algorithm:18} {case.collective:14} {case.native or 'ours':27} "
      f"{case.nodes:3} x {case.local} {nbytes:8} B  SimGrid {theirs * 1e6:9.2f}"
      f" us  ours {ours * 1e6:9.2f} us  {100 * (ours / theirs - 1):+6.2f} %"
    )
  print(
    f"{len(off)} cells: median deviation {100 * statistics.median(off):.2f} %, "
    f"worst {100 * max(off):.2f} %"
  )
  return 0


if __name__ == "__main__":
  runs.launch(main)
