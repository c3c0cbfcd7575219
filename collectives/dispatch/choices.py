"""Choices as plain data: from bytes and ranks to an algorithm, in integers.

All processes trace the same program, and what they trace is static, so the same
file gives the same algorithm everywhere: a choice compares integers, and the
cost model adds exact fractions. There is no float whose last bit could differ
from one processor to another, and no clock, rank or device is asked.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from collectives import algorithms
from collectives import schedule as sched

_FORMAT = 1


class Choice(NamedTuple):
  """What to run, and why.

  Attributes:
    algorithm: its name, or `"xla"`.
    reason: `"timings"`; or `"model"`, where there are none for such a dtype,
      size or number of ranks; or `"nothing known"`.
  """

  algorithm: str
  reason: str


class Range(NamedTuple):
  """The choices for one grid.

  Attributes:
    nodes: its nodes.
    local: ranks of a node.
    smallest: bytes from which something is known.
    until: pairs of bytes and the algorithm up to there, in order; beyond the
      last nothing is known.
  """

  nodes: int
  local: int
  smallest: int
  until: tuple[tuple[int, str], ...]


@dataclasses.dataclass(frozen=True)
class Part:
  """The choices for one collective of some dtypes.

  Attributes:
    dtypes: of the arrays that were timed.
    ranges: one for each grid.
    candidates: among which the model chooses where nothing was timed.
    machine: constants of `cost_model.Machine`, or none without a model.
  """

  dtypes: tuple[str, ...]
  ranges: tuple[Range, ...]
  candidates: tuple[str, ...] = ()
  machine: tuple[float, ...] = ()

  def known(self, nbytes: int, grid: sched.Grid) -> str | None:
    """Looks up what was learned; the nearest grid speaks for those between.

    Grids of the same ranks a node count, and, since the others fold, those that
    are powers of two if `grid` is, and those that are not if it is not.
    """
    alike = [
      one
      for one in self.ranges
      if one.local == grid.local and folds(one.nodes) == folds(grid.nodes)
    ]
    nodes = [one.nodes for one in alike]
    if not nodes or not min(nodes) <= grid.nodes <= max(nodes):
      return None
    here = _log(grid.nodes)
    near = min(alike, key=lambda one: (abs(_log(one.nodes) - here), one.nodes))
    if nbytes < near.smallest:
      return None
    return next((name for until, name in near.until if nbytes <= until), None)

  def modelled(
    self,
    collective: sched.Collective,
    nbytes: int,
    grid: sched.Grid,
    two_axes: bool,
  ) -> str | None:
    """Returns the candidate for which the cost model says least."""
    if not self.machine:
      return None
    from collectives.dispatch import counting  # scipy, only if it is asked

    def seconds(name):
      return counting.seconds(self.machine, name, collective, nbytes, grid)

    able = [c for c in self.candidates if two_axes or not _hierarchical(c)]
    return min(able, key=seconds, default=None)


@dataclasses.dataclass(frozen=True)
class Choices:
  """What `"auto"` takes on one machine.

  Attributes:
    parts: by collective; the model of the first speaks for other dtypes.
    provenance: where they come from.
  """

  parts: Mapping[sched.Collective, tuple[Part, ...]]
  provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def choose(
    self,
    collective: sched.Collective,
    nbytes: int,
    dtype: str,
    grid: sched.Grid,
    *,
    two_axes: bool = True,
  ) -> Choice:
    """Chooses an algorithm.

    Args:
      collective: what it computes.
      nbytes: bytes of the whole buffer: gathered in an all-gather, not yet
        scattered in a reduce-scatter.
      dtype: in which it travels.
      grid: the ranks.
      two_axes: whether algorithms of two levels can run.

    Example:
      >>> small = Range(4, 2, 1024, ((65536, "nvrar"), (2**20, "xla")))
      >>> known = Choices({"all_reduce": (Part(("float32",), (small,)),)})
      >>> known.choose("all_reduce", 4096, "float32", sched.Grid(4, 2))
      Choice(algorithm='nvrar', reason='timings')
      >>> known.choose("all_reduce", 2**30, "float32", sched.Grid(4, 2))
      Choice(algorithm='xla', reason='nothing known')
    """
    parts = self.parts.get(collective, ())
    timed = next((part for part in parts if dtype in part.dtypes), None)
    name = timed.known(nbytes, grid) if timed else None
    if name and (two_axes or not _hierarchical(name)):
      return Choice(name, "timings")
    for part in (timed or parts[0],) if parts else ():
      name = part.modelled(collective, nbytes, grid, two_axes)
      if name:
        return Choice(name, "model")
    return Choice("xla", "nothing known")

  def save(self, path: str | pathlib.Path) -> None:
    """Writes a JSON file."""
    parts = {
      name: [_plain(part) for part in several]
      for name, several in self.parts.items()
    }
    data = {
      "format": _FORMAT,
      "provenance": dict(self.provenance),
      "collectives": parts,
    }
    text = json.dumps(data, indent=1)
    pathlib.Path(path).write_text(text + "\n", encoding="utf-8")


@functools.cache
def load(path: str | pathlib.Path) -> Choices:
  """Reads a file that `Choices.save` wrote, once in a process.

  Raises:
    OSError: it cannot be read.
    ValueError: it is not such a file.
  """
  try:
    data = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    if data["format"] != _FORMAT:
      raise ValueError(f"got format {data['format']!r}, expected {_FORMAT}")
    parts = {
      _collective(name): tuple(_part(name, **part) for part in several)
      for name, several in data["collectives"].items()
    }
    return Choices(parts, data["provenance"])
  except (AttributeError, KeyError, TypeError) as error:
    raise ValueError(
      f"got {error!r} where choices were expected; run tune_collectives again"
    ) from error


def _plain(part: Part) -> dict[str, Any]:
  ranges = [one._asdict() for one in part.ranges]
  return dataclasses.asdict(part) | {"ranges": ranges}


def _collective(name: str) -> sched.Collective:
  for one in get_args(sched.Collective):
    if one == name:
      return one
  raise ValueError(
    f"got the collective {name!r}, expected one of {get_args(sched.Collective)}"
  )


def _part(
  name: sched.Collective,
  dtypes: list[str],
  ranges: list[dict[str, Any]],
  candidates: list[str],
  machine: list[float],
) -> Part:
  read = tuple(
    Range(
      one["nodes"],
      one["local"],
      one["smallest"],
      tuple((int(until), algorithm) for until, algorithm in one["until"]),
    )
    for one in ranges
  )
  for one in read:
    sizes = [one.smallest, *(until for until, _ in one.until)]
    if sizes != sorted(sizes) or not one.until:
      raise ValueError(
        f"got bytes {sizes} for {one.nodes} x {one.local}, expected some, in "
        "order"
      )
  named = {algorithm for one in read for _, algorithm in one.until}
  for algorithm in sorted(named.union(candidates) - {"xla"}):
    algorithms.find(algorithm, name)
  return Part(tuple(dtypes), read, tuple(candidates), tuple(machine))


def _log(count: int) -> int:
  """256 times the binary logarithm, rounded down."""
  return (count**256).bit_length() - 1


def folds(nodes: int) -> bool:
  """Whether algorithms that halve have to fold: it is no power of two."""
  return nodes & (nodes - 1) != 0


def _hierarchical(name: str) -> bool:
  return name != "xla" and algorithms.ALGORITHMS[name].hierarchical
