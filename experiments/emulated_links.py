"""Collectives timed on emulated links, in rounds that survive being killed.

A round starts `research.cluster.launch` with
`experiments.tools.bench_collectives`, and after it each peer on links of the
same kind. Calls are pooled by `research.telemetry.bench`'s rule: a block of
calls before or after which fewer than 1.8 cores were free does not count, and
with fewer than five blocks left a row is `contended`: nothing may be judged by
it. Our own jobs wait for a look between blocks; a peer's has one look at either
end.
"""

import dataclasses
import hashlib
import itertools
import json
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.tools import open_mpi, timed_collectives
from research import runs
from research.cluster import children, launch, probe
from research.cluster import network as network_lib
from research.telemetry import bench

#: Independent peers, with the flags that tell them apart.
PEERS = {"openmpi": (), "openmpi-eager": ("--eager=16M",)}

_ROOT = pathlib.Path(__file__).parents[1]
_ATTEMPTS = 3  # links that are off target mean a busy machine: try again
_SLOW = ("linear", "basic_linear", "nonoverlapping")  # no rivals on links


class UnavailableError(runs.UserError):
  """Links cannot be emulated here, or a peer is not there."""


class _MissingPeerError(Exception):
  """A peer is not there: a unit without it would be taken for one with it."""

  def __init__(self, peer: str, why: str):
    super().__init__(why)
    self.peer = peer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pooled(timed_collectives.Row):
  """A row over all blocks of calls that count, `BLOCK` after `BLOCK`.

  Attributes:
    dropped: how many blocks do not count.
    contended: too few blocks were undisturbed; `times_us` then holds all.
  """

  dropped: int
  contended: bool

  @property
  def blocks(self) -> np.ndarray:
    """Seconds of each call, `[block, call]`."""
    return np.reshape(self.times_us, (-1, timed_collectives.BLOCK)) / 1e6


def timings(
  context: runs.Context,
  network: str,
  *,
  collective: str,
  algorithms: Sequence[str],
  sizes: Sequence[int],
  iters: int,
  warmup: int,
  rounds: int = 1,
  dtype: str = "float32",
  devices: int = 1,
  peers: Sequence[str] = (),
) -> list[Pooled]:
  """Times algorithms on an emulated network.

  Args:
    context: of the run; each round is a unit of its stage `links`.
    network: as `research.cluster.network.parse` reads it.
    collective: `all_reduce`, `all_gather` or `reduce_scatter`.
    algorithms: by name; `"xla"` is what `lax` does.
    sizes: bytes of the larger buffer of a rank.
    iters: calls a round; a multiple of `timed_collectives.BLOCK`.
    warmup: calls before them that do not count.
    rounds: how often all of it is started anew.
    dtype: of the elements.
    devices: ranks of each process.
    peers: names of `PEERS`; their rows are called `openmpi:ring` and so on. A
      peer that is not installed has none.

  Returns:
    A row for each algorithm and size, our algorithms first.

  Raises:
    UnavailableError: links cannot be emulated here.
    UserError: blocks of calls are not whole.
    RuntimeError: a collective gave wrong elements.
  """
  if iters % timed_collectives.BLOCK:
    raise runs.UserError(
      f"iters: got {iters}, expected a multiple of {timed_collectives.BLOCK}"
    )
  command = [
    f"--collective={collective}",
    f"--sizes={','.join(map(str, sizes))}",
    *(f"--iters={iters}", f"--warmup={warmup}", f"--dtype={dtype}"),
  ]
  own = _own(network_lib.parse(network), algorithms, devices) + command
  others = {peer: _peer(peer, network, collective) + command for peer in peers}

  while True:
    stem = _stem(network, collective, [own, *others.values()])
    names = [f"{stem}.{index}" for index in range(rounds)]
    try:
      done = context.units("links").map(names, lambda _: _round(own, others))
      break
    except _MissingPeerError as error:
      print(f"{error.peer} is left out: {error}", file=sys.stderr)
      del others[error.peer]
  return pool([json.loads(str(unit["rows"])) for unit in done.values()])


def _round(
  own: Sequence[str], others: Mapping[str, Sequence[str]]
) -> dict[str, object]:
  """One start of everything; peers first, which may turn out to be missing."""
  theirs = [
    row for peer, line in others.items() for row in _peer_rows(peer, line)
  ]
  return {"rows": json.dumps(answer(own) + theirs)}


def pool(rounds: Sequence[Sequence[dict]]) -> list[Pooled]:
  """Puts rounds together, without the blocks that a neighbour disturbed.

  Args:
    rounds: rows of each round, as `Row.to_json` writes them.

  Raises:
    RuntimeError: a collective gave wrong elements.
  """
  cells: dict[tuple[str, int], list[dict]] = {}
  for row in itertools.chain(*rounds):
    cells.setdefault((row["algorithm"], row["size"]), []).append(row)
  pooled = [_pooled(rows) for rows in cells.values()]
  for row in pooled:
    if row.wrong:
      raise RuntimeError(
        f"{row.collective} by {row.algorithm}, {row.size} bytes: got "
        f"{row.wrong} wrong elements, expected none"
      )
  return pooled


def _pooled(rows: Sequence[dict]) -> Pooled:
  first = rows[0]
  times = np.concatenate([row["times_us"] for row in rows])
  free = np.concatenate([row["free_cores"] for row in rows])
  kept = free >= bench.MIN_FREE_CORES
  contended = bool(kept.sum() < bench.MIN_ROUNDS)
  if not contended:
    times = times.reshape(len(kept), -1)[kept].reshape(-1)
  low, median, high = np.percentile(times, [0, 50, 95]).tolist()
  algbw = first["size"] / median / 1e3
  factor = first["busbw"] / first["algbw"]
  return Pooled(
    **first
    | {
      "min_us": low,
      "median_us": median,
      "p95_us": high,
      "algbw": algbw,
      "busbw": algbw * factor,
      "wrong": sum(row["wrong"] for row in rows),
      "times_us": tuple(times.tolist()),
      "free_cores": tuple(free.tolist()),
    },
    dropped=int((~kept).sum()),
    contended=contended,
  )


def _stem(
  network: str, collective: str, commands: Sequence[Sequence[str]]
) -> str:
  """A unit's name: readable, and another for another question."""
  grid = re.sub(r"[^A-Za-z0-9.]+", "-", network)
  digest = hashlib.sha256(json.dumps(commands).encode()).hexdigest()[:8]
  return f"{grid}.{collective}.{digest}"


def _own(
  wanted: network_lib.Network, algorithms: Sequence[str], devices: int
) -> list[str]:
  tool = ["-m", "experiments.tools.bench_collectives"]
  return [
    *("-m", "research.cluster.launch", f"--network={wanted}"),
    *(f"--devices={devices}", "--", sys.executable, *tool),
    f"--mesh=node={wanted.nodes},local={wanted.per_node * devices}",
    f"--algorithms={','.join(algorithms)}",
  ]


def _peer(peer: str, network: str, collective: str) -> list[str]:
  names = [n for n in open_mpi.names(collective) if n not in _SLOW]
  return [
    *("-m", "experiments.tools.mpi_collectives", f"--network={network}"),
    *(f"--algorithms={','.join(names)}", *PEERS[peer]),
  ]


def _peer_rows(peer: str, command: Sequence[str]) -> list[dict]:
  free = probe.free_cores()
  try:
    rows = answer(command)
  except UnavailableError as error:
    raise _MissingPeerError(peer, str(error)) from error
  free = min(free, probe.free_cores())
  for row in rows:
    name = row["algorithm"].split(":", 1)[1]
    row["algorithm"] = f"{peer}:{name}"
    row["free_cores"] = [free] * (
      len(row["times_us"]) // timed_collectives.BLOCK
    )
  return rows


def answer(command: Sequence[str]) -> Any:
  """Runs a bench and returns what it wrote as JSON.

  Args:
    command: arguments of Python; `--json=FILE` is added. Links that are off
      target, as on a busy machine, are tried again.

  Raises:
    UnavailableError: it said that what it needs is not here.
  """
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder, "rows.json")
    for _ in range(_ATTEMPTS):
      job = subprocess.run(
        children.dying_with_parent(
          [sys.executable, *command, f"--json={file}"]
        ),
        cwd=_ROOT,
        capture_output=True,
        text=True,
      )
      if job.returncode != launch.OFF_TARGET:
        break
    if job.returncode in (launch.UNAVAILABLE, launch.OFF_TARGET):
      raise UnavailableError(job.stderr.strip().splitlines()[-1])
    if job.returncode != 0:
      raise RuntimeError(
        f"got code {job.returncode} from {' '.join(command)}, expected 0; it "
        f"said: {(job.stdout + job.stderr)[-2000:]}"
      )
    return json.loads(file.read_text())
