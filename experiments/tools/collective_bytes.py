"""What a compiled program sends, counted in its HLO."""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import get_args

import jax.numpy as jnp
import numpy as np

from collectives import algorithms, cost_model
from collectives import schedule as sched

_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.-]+) \(.*\) -> .*\{$")
_KINDS = ("collective-permute", "all-gather", "all-reduce", "reduce-scatter")
_OP = re.compile(rf" = (.*?) ({'|'.join(_KINDS)})\(")
_LOOP = re.compile(r" while\(.*body=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_DTYPES = {
  **{"f": "float", "bf": "bfloat", "c": "complex"},
  **{"s": "int", "u": "uint", "pred": "bool"},
}


@dataclasses.dataclass(frozen=True)
class Sent:
  """What one call of a program sends.

  Attributes:
    rank: bytes that a rank sends, the mean over ranks.
    port: bytes that leave the node which sends most.
  """

  rank: float
  port: float


def count(hlo: str, grid: sched.Grid) -> Sent:
  """Counts bytes in the text of a compiled module.

  A collective of the vendor counts as gloo runs it (`cost_model.GLOO`); one in
  a loop counts as often as the loop runs.

  Args:
    hlo: what `compiled.as_text()` gives, for one device of `grid.size`.
    grid: which devices share a node: device `node * local + i` is on `node`.

  Raises:
    ValueError: a loop with collectives does not say how often it runs.
  """
  lines = _computations(hlo)
  ranks = 0.0
  ports = [0.0] * grid.nodes
  for line, times in _walk(lines, lines["ENTRY"]):
    for src, dst, nbytes in _messages(line, grid.size):
      ranks += times * nbytes
      if src // grid.local != dst // grid.local:
        ports[src // grid.local] += times * nbytes
  return Sent(ranks / grid.size, max(ports))


def _computations(hlo: str) -> dict[str, list[str]]:
  """Lines by computation; the program's own is `ENTRY`."""
  found: dict[str, list[str]] = {}
  own: list[str] = []
  for line in hlo.splitlines():
    if match := _COMPUTATION.match(line):
      name = "ENTRY" if line.startswith("ENTRY") else match[1]
      own = found.setdefault(name, [])
    else:
      own.append(line)
  return found


def _walk(
  computations: dict[str, list[str]], lines: list[str]
) -> Iterator[tuple[str, int]]:
  """Lines with a collective, and how often each runs."""
  for line in lines:
    if loop := _LOOP.search(line):
      inside = list(_walk(computations, computations[loop[1]]))
      trips = _TRIPS.search(line)
      if inside and trips is None:
        raise ValueError(
          f"got a loop over {loop[1]} with collectives and no trip count,"
          " expected known_trip_count; count a program whose loops are scans"
        )
      yield from ((inner, n * int(trips[1])) for inner, n in inside if trips)
    elif _OP.search(line):
      yield line, 1


def _messages(line: str, ranks: int) -> Iterator[tuple[int, int, float]]:
  """Sender, receiver and bytes of each message of a collective."""
  match = _OP.search(line)
  assert match is not None
  nbytes, kind = _nbytes(match[1]), match[2].replace("-", "_")
  if kind == "collective_permute":
    for src, dst in _groups(line, "source_target_pairs"):
      yield src, dst, nbytes
    return
  collective = next(c for c in get_args(sched.Collective) if c == kind)
  name = cost_model.GLOO[collective]
  for group in _groups(line, "replica_groups") or [list(range(ranks))]:
    whole = nbytes * (len(group) if kind == "reduce_scatter" else 1)
    plan = algorithms.find(name, collective).schedule(
      collective, sched.Grid(len(group))
    )
    slot = whole / plan.slots / plan.chunks
    for step in plan.steps:
      for one in step:
        times = plan.chunks * len(one.slots)
        yield group[one.src], group[one.dst], times * slot


def _nbytes(shapes: str) -> int:
  """Bytes of an HLO shape, or of all in a tuple."""
  return sum(
    jnp.dtype(_dtype(name)).itemsize
    * math.prod(int(n) for n in dims.split(",") if n)
    for name, dims in _SHAPE.findall(shapes)
  )


def _dtype(name: str) -> str:
  """The name that numpy has for a type of HLO, such as float32 for f32."""
  kind = name.rstrip("0123456789")
  return _DTYPES[kind] + name[len(kind) :]


def _groups(line: str, key: str) -> list[list[int]]:
  """Reads `key={{0,1},{2,3}}` or `key=[2,2]<=[4]`; none where it is `{}`."""
  iota = re.search(key + r"=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line)
  if iota:
    shape, dims = _ints(iota[1]), _ints(iota[2])
    order = np.arange(math.prod(dims)).reshape(dims)
    if iota[3]:
      order = order.transpose(_ints(iota[3]))
    return [list(map(int, group)) for group in order.reshape(shape)]
  match = re.search(key + r"=\{((?:\{[\d,]*\},?)*)\}", line)
  groups = re.findall(r"\{([\d,]+)\}", match[1] if match else "")
  return [_ints(group) for group in groups]


def _ints(numbers: str) -> list[int]:
  return [int(n) for n in numbers.split(",")]
