"""What the epidemic suites say beside their figures."""

import subprocess
import sys

import pytest

from experiments.tools import bench_epidemic, bench_nation
from research.telemetry import peer


def test_trap_12_a_row_says_what_was_run():
  told = {"wall": 2.0, "attack": 0.5, "peak": 3e8, "meets": "random pairs"}
  answers = [dict(told, wall=3.0), told]
  assert bench_epidemic._told(answers) == {
    "wall_s": 2.0,
    "attack": 0.5,
    "peak_mb": 300,
    "contacts": "random pairs",
  }
  assert bench_epidemic._told([]) == {}  # a rival that is not installed


@pytest.mark.slow
def test_our_worker_answers_with_and_without_fear():
  command = [sys.executable, "-m", "experiments.tools.epidemic_worker"]
  with peer.PeerProcess(command, timeout=200) as ours:
    asked = {"people": 2000, "days": 40, "share": 0.01, "seed": 1}
    plain = ours.call(asked)
    afraid = ours.call(asked | {"fear": True}).values
  assert plain.seconds > 0
  assert 0.01 < afraid["attack"] < plain.values["attack"] < 1
  assert afraid["people"] == 2000
  assert afraid["meets"].endswith("; fear")


@pytest.mark.slow
def test_rivals_that_are_not_installed_say_so():
  command = [sys.executable, "-m", "experiments.tools.bench"]
  command += ["--suite=epidemic", "--rounds=1", "--people=1000", "--days=3"]
  done = subprocess.run(
    [*command, f"--peers={sys.executable}"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.count("unavailable") >= 4
  assert "No module named 'covasim'" in done.stderr


@pytest.mark.slow
def test_a_nation_fits_a_large_card():
  [(_, rows)] = bench_nation.nation(rounds=1)
  assert [row.name for row in rows] == ["1 device", "8 devices"]
  assert all(row.kind == "compiled" for row in rows)
  alone, shared = (row.median for row in rows)
  assert alone is not None
  assert shared is not None
  assert shared < alone < 80e9
  assert alone > 20 * 330e6  # what agents hold
