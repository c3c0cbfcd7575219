"""Open MPI is timed as our collectives are, and leaves nothing behind."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
import types
from typing import Any

import numpy as np
import pytest

from experiments.tools import open_mpi
from research.cluster import launch
from research.runs import errors

_ROOT = pathlib.Path(__file__).parents[2]
_PYTHON = _ROOT / ".venv-peers" / "bin" / "python"
_RANKS = 3


@pytest.mark.parametrize(
  ("asked", "message"),
  [
    ({"algorithms": ["nvrar"]}, "got the algorithm 'nvrar'; expected one of"),
    ({"dtype": "bfloat16"}, "got the dtype 'bfloat16', expected one that"),
    ({"op": "mean"}, "got the op 'mean', expected one that MPI has: sum, max"),
  ],
)
def test_what_mpi_does_not_have_is_refused(asked: dict, message: str):
  right: dict[str, Any] = {
    "algorithms": ["ring", "default"],
    "dtype": "float32",
    "op": "sum",
  }
  open_mpi.check("all_reduce", **right)
  with pytest.raises(errors.UserError, match=message):
    open_mpi.check("all_reduce", **right | asked)


def test_algorithms_are_asked_for_by_number():
  assert open_mpi.settings("all_reduce", "segmented_ring") == {
    "coll_han_priority": 0,
    "coll_tuned_use_dynamic_rules": 1,
    "coll_tuned_allreduce_algorithm": 5,
    "coll_tuned_allreduce_algorithm_segmentsize": 65536,
  }
  name = "coll_tuned_reduce_scatter_block_algorithm"
  halving = open_mpi.settings("reduce_scatter", "recursive_halving")
  assert (halving[name], halving[f"{name}_segmentsize"]) == (3, 0)


def test_no_open_mpi_is_one_line_and_a_reason_to_skip(tmp_path: pathlib.Path):
  done = _run(f"--peers={tmp_path}/python")
  assert done.returncode == launch.UNAVAILABLE
  assert done.stdout == ""
  assert done.stderr == (
    f"error: got no Open MPI beside {tmp_path}/python; expected openmpi and"
    " mpi4py of requirements-peers.txt there; run `make peers`\n"
  )


@pytest.mark.parametrize("op", ["sum", "max"])
@pytest.mark.parametrize(
  ("kind", "method"),
  [
    ("all_reduce", "Allreduce"),
    ("all_gather", "Allgather"),
    ("reduce_scatter", "Reduce_scatter_block"),
  ],
)
def test_the_worker_counts_wrong_elements(monkeypatch, kind, method, op):
  bench, right = _worker_bench(monkeypatch, kind, op)

  def fake(change):
    def run(x, y, *reducing):
      assert x.dtype == y.dtype == np.float32
      assert reducing == (() if kind == "all_gather" else (op,))
      y[:] = change(right)

    return types.SimpleNamespace(
      **dict.fromkeys(("Allreduce", "Allgather", "Reduce_scatter_block"), None)
      | {method: run}
    )

  for change, wrong in (
    (lambda y: y, 0),
    (lambda y: y + (np.arange(len(y)) == 2), 1),
    (lambda y: np.roll(y, 1), len(right)),  # no two neighbours are the same
  ):
    assert bench.wrong(bench.call(fake(change))) == wrong


def _worker_bench(monkeypatch: pytest.MonkeyPatch, kind: str, op: str):
  """Returns the worker's bench on rank 1 and what it should get there."""
  world = types.SimpleNamespace(size=_RANKS, rank=1, allreduce=lambda x: x)
  fake = types.SimpleNamespace(COMM_WORLD=world, SUM="sum", MAX="max", Comm=0)
  package = types.ModuleType("mpi4py")
  package.MPI = fake  # pyrefly: ignore
  monkeypatch.setitem(sys.modules, "mpi4py", package)
  path = _ROOT / "experiments" / "tools" / "peers" / "open_mpi_worker.py"
  spec = importlib.util.spec_from_file_location("open_mpi_worker", path)
  assert spec is not None
  assert spec.loader is not None
  worker = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(worker)
  request = {"collective": kind, "op": op, "dtype": "float32"}
  length = 4 * _RANKS if kind == "reduce_scatter" else 4
  data = np.random.default_rng(0).integers(1, 1001, (_RANKS, length))
  reduced = data.sum(0) if op == "sum" else data.max(0)
  right = {
    "all_reduce": reduced,
    "all_gather": data.reshape(-1),
    "reduce_scatter": reduced[4:8],
  }[kind]
  assert (right != np.roll(right, 1)).all()
  return worker.Bench(request, 4), right


def _run(*flags: str) -> subprocess.CompletedProcess[str]:
  process = _start(*flags)
  out, err = process.communicate(timeout=100)
  return subprocess.CompletedProcess(flags, process.returncode, out, err)


def _start(*flags: str) -> subprocess.Popen[str]:
  tool = [sys.executable, "-m", "experiments.tools.mpi_collectives"]
  return subprocess.Popen(
    [*tool, f"--peers={_PYTHON}", *flags],
    env=os.environ | {"PYTHONPATH": str(_ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _rows(tmp_path: pathlib.Path, *flags: str) -> list[dict]:
  file = tmp_path / "rows.json"
  done = _run(f"--json={file}", "--warmup=1", *flags)
  if done.returncode in (launch.UNAVAILABLE, launch.OFF_TARGET):
    pytest.skip(done.stderr.strip())
  assert done.returncode == 0, done.stdout + done.stderr
  return json.loads(file.read_text())


@pytest.mark.peers
@pytest.mark.parametrize(
  "collective", ["all_reduce", "all_gather", "reduce_scatter"]
)
def test_every_algorithm_is_right(tmp_path: pathlib.Path, collective: str):
  names = open_mpi.names(collective)
  network = "2x2,alpha=0.5ms,bw=1Gb"
  rows = _rows(
    tmp_path,
    f"--network={network}",
    f"--collective={collective}",
    f"--algorithms={','.join(names)}",
    *("--min_bytes=1000", "--max_bytes=512K", "--factor=512", "--iters=2"),
  )
  assert [row["algorithm"] for row in rows] == 2 * [
    f"openmpi:{name}" for name in names
  ]
  assert {row["size"] for row in rows} in ({1000, 512000}, {992, 512000})
  for row in rows:
    assert row["wrong"] == 0
    assert row["transport"].startswith("Open MPI 5.0.11, 4 processes, over")
    assert network in row["transport"]
    assert row["algbw"] == pytest.approx(row["size"] / row["median_us"] / 1e3)
    assert 0 < row["min_us"] <= row["median_us"] <= row["p95_us"]


@pytest.mark.peers
def test_the_algorithm_asked_for_is_taken(tmp_path: pathlib.Path):
  # A ring of four nodes passes six links, recursive doubling two: no message
  # is faster than its links, and the fastest of ten calls not much slower.
  rows = _rows(
    tmp_path,
    "--network=4x1,alpha=10ms,bw=1Gb",
    "--algorithms=ring,recursive_doubling,default",
    *("--min_bytes=1K", "--max_bytes=1K", "--iters=10"),
  )
  fastest = {row["algorithm"]: row["min_us"] / 10_000 for row in rows}
  assert fastest["openmpi:ring"] >= 6
  assert 2 <= fastest["openmpi:recursive_doubling"] < 6


@pytest.mark.peers
def test_nothing_is_left_after_sigkill(tmp_path: pathlib.Path):
  files = [pathlib.Path("/dev/shm"), pathlib.Path("/tmp")]
  before = [_open_mpi_files(folder) for folder in files]
  tool = _start(
    *("--network=2x1,alpha=0.5ms,bw=1Gb", "--algorithms=ring"),
    *("--min_bytes=1K", "--max_bytes=1K", "--iters=98765432"),
  )
  deadline = time.monotonic() + 60
  while len(nets := _nets('"iters": 98765432')) < 2:
    if tool.poll() in (launch.UNAVAILABLE, launch.OFF_TARGET):
      pytest.skip(tool.communicate()[1].strip())
    assert time.monotonic() < deadline
    time.sleep(0.05)
  tool.kill()
  tool.communicate(timeout=60)
  while nets & _nets(""):
    assert time.monotonic() < deadline
    time.sleep(0.05)
  assert [_open_mpi_files(folder) for folder in files] == before


def _open_mpi_files(folder: pathlib.Path) -> set[str]:
  marks = ("ompi", "prte", "pmix", "sm_segment")
  return {name for name in os.listdir(folder) if name.startswith(marks)}


def _nets(mark: str) -> set[str]:
  """Returns the network namespaces of processes with `mark` in a command."""
  nets = set()
  for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      net = os.readlink(folder / "ns" / "net")
      words = (folder / "cmdline").read_text().split("\0")
    except OSError:  # it has just ended, or is another user's
      continue
    if net != os.readlink("/proc/self/ns/net") and mark in " ".join(words):
      nets.add(net)
  return nets
