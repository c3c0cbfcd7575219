"""Reproduces toy papers by the same command code that runs the real ones."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from experiments import papers, reproduce
from research import runs
from research.runs import files

ROOT = pathlib.Path(__file__).parents[2]
WORKER = pathlib.Path(__file__).with_name("reproduce_worker.py")


@pytest.fixture(autouse=True)
def _interruptible():
  """A job in the background may ignore interrupts, and its children too."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


def _start(out: pathlib.Path, *slugs: str, **env: str) -> subprocess.Popen[str]:
  return subprocess.Popen(
    [sys.executable, WORKER, ROOT / "tests" / "runs", out, *slugs],
    env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | env,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def test_a_failing_paper_stops_no_other(tmp_path: pathlib.Path):
  process = _start(tmp_path)
  out, _ = process.communicate(timeout=300)
  assert process.returncode == 1
  lines = out.splitlines()
  assert lines[:7] == [
    "Will run, cheapest first:",
    "  crash: about 1.0 s",
    "  pi: about 6.0 s, needs a-board (fetched once)",
    "Skipped: picky: needs the program no-such-program, which is not on PATH; "
    "install it (third_party/apt.txt)",
    "Not built yet: later",
    "Expected: about 7.0 s on 2 cores",
    f"Report: {tmp_path / 'report.html'} (fills as papers finish)",
  ]
  assert lines[7] == "crash running"
  assert lines[8].endswith("RuntimeError: the lab burned down")
  assert "holds: The share of darts inside the circle gives pi" in lines[10]
  assert lines[11:] == [f"report: {tmp_path / 'report.html'}"]
  page = (tmp_path / "report.html").read_text()
  assert 'http-equiv="refresh"' not in page
  for text in (
    'data-claim="pi/rational"',
    "RuntimeError: the lab burned down",
    "needs the program no-such-program",
    "not built yet",
    "Pi by darts.",
    "python -m toys.pi.main --config=toys/pi/configs/laptop.py",
  ):
    assert text in page
  assert "throws 5/5" in (tmp_path / "pi" / "log.txt").read_text()


def test_a_second_pass_runs_nothing_twice(tmp_path: pathlib.Path):
  for _ in range(2):
    process = _start(tmp_path, "pi", "later")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out  # its second claim fails, and may
  log = (tmp_path / "pi" / "log.txt").read_text()
  assert log.count("throws 1/5") == 1
  assert log.rstrip().endswith(
    "this run is finished; its result is in result.json"
  )
  assert 'data-claim="pi/pi"' in (tmp_path / "report.html").read_text()


def _wait_for_units(process: subprocess.Popen[str], out: pathlib.Path) -> None:
  while len(list((out / "pi").rglob("[0-9].npz"))) < 2:
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.02)


def test_the_report_is_there_while_it_runs_and_ctrl_c_resumes(
  tmp_path: pathlib.Path,
):
  process = _start(tmp_path, "pi", TOY_PAUSE_S="0.5")
  _wait_for_units(process, tmp_path)
  running = (tmp_path / "report.html").read_text()
  assert 'http-equiv="refresh"' in running
  process.send_signal(signal.SIGINT)
  out, _ = process.communicate(timeout=300)
  assert process.returncode == 130
  assert out.endswith("interrupted; the same command goes on from here\n")
  stopped = (tmp_path / "report.html").read_text()
  assert 'http-equiv="refresh"' not in stopped
  assert 'class="state stopped"' in stopped
  assert not (tmp_path / "pi" / "result.json").exists()

  again = _start(tmp_path, "pi", TOY_PAUSE_S="0.5")
  out, _ = again.communicate(timeout=300)
  assert again.returncode == 0, out
  assert len(files.read_json(tmp_path / "pi" / "run.json")["earlier"]) == 1


def test_sigkill_takes_the_running_paper_along(tmp_path: pathlib.Path):
  process = _start(tmp_path, "pi", TOY_PAUSE_S="0.5")
  _wait_for_units(process, tmp_path)
  process.kill()
  process.communicate()
  holder = (tmp_path / "pi" / ".lock").read_text()
  pid = int(holder.split()[1])
  while _is_running(pid):  # the kernel sends the signal at once
    time.sleep(0.01)
  assert not (tmp_path / "pi" / "result.json").exists()


def _is_running(pid: int) -> bool:
  try:
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except FileNotFoundError:
    return False
  return stat.rsplit(")", 1)[1].split()[0] != "Z"


def test_an_unknown_paper_names_the_others():
  with pytest.raises(runs.UserError) as caught:
    reproduce.select(papers.PAPERS, "sift")
  assert str(caught.value).startswith(
    "got --paper=sift, expected one of: sift_attention"
  )


def test_a_paper_that_is_not_built_says_so():
  planned = papers.Paper(slug="x", title="X", arxiv="1", about="x")
  with pytest.raises(runs.UserError) as caught:
    reproduce.select([*papers.PAPERS, planned], "x")
  assert "got --paper=x, which is not built yet, expected" in str(caught.value)


def test_the_table_of_papers_is_whole():
  slugs = [paper.slug for paper in papers.PAPERS]
  assert len(set(slugs)) == len(slugs) == 10
  assert len({paper.arxiv for paper in papers.PAPERS}) == 10
  for paper in papers.PAPERS:
    built = (ROOT / "experiments" / paper.slug / "main.py").exists()
    assert built == (paper.status == "available")
    assert bool(paper.headline) == built
