"""The launcher with real processes, and JAX jobs that end well or badly."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from research.cluster import launch
from research.telemetry import metrics, trace

_HERE = pathlib.Path(__file__).parent
_ENV = os.environ | {"PYTHONPATH": str(_HERE.parents[1])}


def _launch(*args: str) -> subprocess.Popen[str]:
  return subprocess.Popen(
    [sys.executable, "-m", "research.cluster.launch", *args],
    env=_ENV,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _psum(end: str, folder: pathlib.Path) -> tuple[int, str, str]:
  worker = [sys.executable, str(_HERE / "psum_worker.py"), end, str(folder)]
  job = _launch("-n", "2", "--devices=2", "--", *worker)
  out, err = job.communicate(timeout=100)
  return job.returncode, out, err


def _shell(num_processes: int, script: str) -> subprocess.Popen[str]:
  return _launch("-n", str(num_processes), "--", "sh", "-c", script)


def _wait_until_gone(pids: list[int]) -> list[int]:
  deadline = time.monotonic() + 20
  while time.monotonic() < deadline:
    pids = [pid for pid in pids if _runs(pid)]
    if not pids:
      break
    time.sleep(0.05)
  return pids


def _runs(pid: int) -> bool:
  try:
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except (FileNotFoundError, ProcessLookupError):
    return False
  return stat.rpartition(")")[2].split()[0] != "Z"


def _read_pids(job: subprocess.Popen[str], num_processes: int) -> list[int]:
  assert job.stdout is not None
  return [int(job.stdout.readline().split()[1]) for _ in range(num_processes)]


def test_psum_over_two_processes_of_two_devices(tmp_path: pathlib.Path):
  code, out, err = _psum("end", tmp_path)
  assert code == 0, out + err
  lines = out.splitlines()
  assert "[0] 2 of 4 devices, sum 1111" in lines
  assert "[1] 2 of 4 devices, sum 1111" in lines
  # Process 0 alone writes metrics; each process leaves a trace of its own.
  rows = metrics.read(tmp_path / metrics.FILE_NAME)
  assert [row["values"] for row in rows] == [{"test/sum": 1111.0}]
  assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
  traces = [path.parent for path in tmp_path.rglob(trace.SPANS_FILE)]
  profile = tmp_path / "profile"
  assert sorted(traces) == [profile, profile / "process_1"]


def test_exception_in_one_process_ends_the_job(tmp_path: pathlib.Path):
  code, _, err = _psum("raise", tmp_path)
  assert code == 1
  assert "process 1 ended with code 1" in err
  assert "it said: ValueError: the planted failure" in err


def test_exit_code_of_one_process_is_that_of_the_job(tmp_path: pathlib.Path):
  code, _, err = _psum("exit", tmp_path)
  assert code == 7
  assert "process 1 ended with code 7" in err


def test_failure_stops_processes_that_ignore_sigterm():
  # Only SIGKILL ends process 0, and both have printed before 1 fails.
  job = _shell(
    2,
    "trap '' TERM; echo $$;"
    " if [ $DECTET_PROCESS_ID = 1 ]; then sleep 0.3; echo no luck; exit 3; fi;"
    " while :; do sleep 0.1; done",
  )
  out, err = job.communicate(timeout=30)
  pids = [int(line.split()[1]) for line in out.splitlines() if "no" not in line]
  assert job.returncode == 3
  assert len(pids) == 2
  assert _wait_until_gone(pids) == []
  assert err == (
    "launch: process 1 ended with code 3; the others are stopped;"
    " it said: no luck\n"
  )


def test_death_by_signal_is_named():
  job = _shell(1, "kill -KILL $$")
  _, err = job.communicate(timeout=30)
  assert job.returncode == 128 + signal.SIGKILL
  assert "process 0 ended with signal SIGKILL" in err
  assert "it said: (it printed nothing)" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_every_process(number: signal.Signals):
  script = (
    "trap 'echo got INT; exit 0' INT; trap 'echo got TERM; exit 0' TERM;"
    " echo $$; while :; do sleep 0.1 & wait; done"
  )
  job = _shell(2, script)
  pids = _read_pids(job, 2)
  job.send_signal(number)
  out, _ = job.communicate(timeout=30)
  name = number.name.removeprefix("SIG")
  assert sorted(out.splitlines()) == [f"[0] got {name}", f"[1] got {name}"]
  assert job.returncode == 128 + number
  assert _wait_until_gone(pids) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_no_orphans_after_sigkill_of_the_launcher():
  job = _shell(2, "echo $$; exec sleep 600")
  pids = _read_pids(job, 2)
  assert all(_runs(pid) for pid in pids)
  job.kill()
  job.communicate(timeout=30)
  assert _wait_until_gone(pids) == []


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (
      ["-n", "0", "--", "true"],
      "got '0'; expected a whole number of at least 1",
    ),
    (["-n", "two", "--", "true"], "got 'two'; expected a whole number"),
    (["-n", "2"], "got no command; expected one after --"),
    (["--", "true"], "one of the arguments -n --network is required"),
  ],
)
def test_bad_command_lines(
  argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
  with pytest.raises(SystemExit) as caught:
    launch.main(argv)
  assert caught.value.code == 2
  assert message in capsys.readouterr().err


def test_command_that_does_not_exist(capsys: pytest.CaptureFixture[str]):
  assert launch.main(["-n", "2", "--", "no-such-program"]) == 127
  assert "launch: got the program 'no-such-program'" in capsys.readouterr().err


def test_flags_of_the_command_are_its_own(capfd: pytest.CaptureFixture[str]):
  script = "import sys; print(sys.argv[1:])"
  argv = ["-n", "1", "--", sys.executable, "-c", script, "-n", "9", "--", "x"]
  assert launch.main(argv) == 0
  assert capfd.readouterr().out == "[0] ['-n', '9', '--', 'x']\n"
