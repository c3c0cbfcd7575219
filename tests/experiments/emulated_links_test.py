"""Rounds on emulated links are pooled without what disturbed them."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from experiments import emulated_links
from experiments.tools import timed_collectives
from research import runs
from research.cluster import launch

_BLOCK = timed_collectives.BLOCK


def _row(times, free, **fields) -> dict:
  row = timed_collectives.Row(
    collective="all_reduce",
    algorithm="ring",
    size=4096,
    count=1024,
    dtype="float32",
    op="sum",
    median_us=1.0,
    min_us=1.0,
    p95_us=1.0,
    algbw=4.096,
    busbw=7.168,
    wrong=0,
    transport="made up",
    times_us=tuple(map(float, times)),
    free_cores=tuple(free),
  )
  return json.loads(json.dumps(row.to_json() | fields))


def test_disturbed_blocks_do_not_count():
  quiet, disturbed = [10.0] * _BLOCK, [99.0] * _BLOCK
  first = _row(quiet * 3 + disturbed, [1.9, 1.85, 2.0, 1.5])
  second = _row(disturbed + quiet * 2, [0.4, 1.9, 1.9])
  (row,) = emulated_links.pool([[first], [second]])
  assert row.times_us == (10.0,) * (5 * _BLOCK)
  assert row.blocks.shape == (5, _BLOCK)
  assert row.median_us == row.p95_us == 10.0
  assert (row.dropped, row.contended) == (2, False)
  assert row.algbw == pytest.approx(4096 / 10e-6 / 1e9)
  assert row.busbw == pytest.approx(1.75 * 4096 / 10e-6 / 1e9)


def test_fewer_than_five_blocks_are_contended_and_kept_all():
  times = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], _BLOCK)
  (row,) = emulated_links.pool([[_row(times, [1.9] * 4 + [1.7])]])
  assert row.contended
  assert row.times_us == tuple(times)


def _timings(folder: pathlib.Path, **how):
  context = runs.Context(runs.Workdir(folder))
  asked: dict[str, Any] = {
    "collective": "all_reduce",
    "algorithms": ["xla"],
    "sizes": [4096],
    "iters": 4,
    "warmup": 1,
  }
  return emulated_links.timings(context, "2x1,alpha=1ms,bw=1Gb", **asked | how)


class _Job:
  """Stands for `subprocess`; notes commands and gives codes in turn."""

  def __init__(self, codes):
    self.codes = list(codes)
    self.commands = []

  def run(self, command, **_):
    tool = command[command.index("-m") + 1].rsplit(".", 1)[1]
    self.commands.append([tool, *command])
    name = "openmpi:ring" if tool == "mpi_collectives" else "xla"
    if self.codes[0] == 0:
      file = command[-1].removeprefix("--json=")
      row = _row([5.0] * 4, [2.0] * 2, algorithm=name)
      pathlib.Path(file).write_text(json.dumps([row]))
    return type(
      "Done",
      (),
      {"returncode": self.codes.pop(0), "stdout": "", "stderr": "a\nlast"},
    )


def test_rounds_are_kept_and_peers_named(tmp_path, monkeypatch):
  job = _Job([0] * 6)
  monkeypatch.setattr(emulated_links.subprocess, "run", job.run)
  monkeypatch.setattr(emulated_links.probe, "free_cores", lambda: 1.0)
  how = {"rounds": 2, "peers": ["openmpi", "openmpi-eager"]}
  rows = _timings(tmp_path, **how)
  names = ["xla", "openmpi:ring", "openmpi-eager:ring"]
  assert [row.algorithm for row in rows] == names
  assert rows[1].free_cores == (1.0,) * 4
  kinds = ["eager" if "--eager=16M" in c else c[0] for c in job.commands]
  assert kinds == ["mpi_collectives", "eager", "launch"] * 2
  assert _timings(tmp_path, **how) == rows  # no code is left for a job
  unit = max(tmp_path.glob("units/links/*"))
  unit.unlink()
  job.codes = [0] * 3
  assert _timings(tmp_path, **how) == rows
  assert len(job.commands) == 9


def test_another_question_is_another_unit(tmp_path, monkeypatch):
  job = _Job([0] * 2)
  monkeypatch.setattr(emulated_links.subprocess, "run", job.run)
  _timings(tmp_path)
  _timings(tmp_path, iters=8)
  assert len(job.commands) == 2


def test_no_links_is_said_and_a_missing_peer_left_out(tmp_path, monkeypatch):
  job = _Job([launch.UNAVAILABLE])
  monkeypatch.setattr(emulated_links.subprocess, "run", job.run)
  with pytest.raises(emulated_links.UnavailableError, match="^last$"):
    _timings(tmp_path)
  job.codes = [launch.UNAVAILABLE, 0]
  (row,) = _timings(tmp_path, peers=["openmpi"])
  assert row.algorithm == "xla"


def test_a_peer_that_comes_later_is_measured(tmp_path, monkeypatch):
  job = _Job([launch.UNAVAILABLE, 0, 0, 0])
  monkeypatch.setattr(emulated_links.subprocess, "run", job.run)
  assert len(_timings(tmp_path, peers=["openmpi"])) == 1
  assert len(_timings(tmp_path, peers=["openmpi"])) == 2


def test_wrong_elements_are_no_timings():
  with pytest.raises(RuntimeError, match="ring, 4096 bytes: got 3 wrong"):
    emulated_links.pool([[_row([1.0] * _BLOCK, [2.0], wrong=3)]])


def test_links_off_target_are_tried_again(tmp_path, monkeypatch):
  job = _Job([launch.OFF_TARGET, 0])
  monkeypatch.setattr(emulated_links.subprocess, "run", job.run)
  assert len(_timings(tmp_path)) == 1
  assert len(job.commands) == 2
  assert [command[0] for command in job.commands] == ["launch"] * 2


def test_a_job_that_fails_is_no_skip(tmp_path, monkeypatch):
  monkeypatch.setattr(emulated_links.subprocess, "run", _Job([1]).run)
  with pytest.raises(RuntimeError, match=r"got code 1 from .* a\nlast$"):
    _timings(tmp_path)


def test_calls_come_in_whole_blocks(tmp_path):
  with pytest.raises(runs.UserError, match="iters: got 5, expected a multiple"):
    _timings(tmp_path, iters=5)
