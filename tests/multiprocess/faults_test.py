"""Processes that die, stop or come late, as the others see it."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

_HERE = pathlib.Path(__file__).parent
_ENV = {
  "PYTHONPATH": str(_HERE.parents[1]),
  "JAX_PLATFORMS": "cpu",
  "JAX_NUM_CPU_DEVICES": "1",
  "JAX_ENABLE_PREEMPTION_SERVICE": "false",
  "DECTET_NUM_PROCESSES": "3",
}


def _survivors(timeout: float, **faults: str) -> list[tuple[int, str]]:
  """Runs three processes; returns codes and last lines of those without fault.

  Not under the launcher, which would stop the job at the first death.
  """
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
  faulty = {name.removeprefix("process_"): how for name, how in faults.items()}
  worker = [
    sys.executable,
    str(_HERE / "faults_worker.py"),
    str(timeout),
    *(f"{i}={how}" for i, how in faulty.items()),
  ]
  jobs = [
    subprocess.Popen(
      worker,
      env=os.environ
      | _ENV
      | {"DECTET_COORDINATOR": coordinator, "DECTET_PROCESS_ID": str(i)},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(3)
  ]
  try:
    found = []
    for i, job in enumerate(jobs):
      if str(i) not in faulty:
        _, err = job.communicate(timeout=100)
        found.append((job.returncode, err.strip().splitlines()[-1]))
    return found
  finally:
    for job in jobs:
      job.kill()
      job.communicate()


def test_a_dead_process_is_named_by_every_other():
  found = _survivors(60, process_1="SIGKILL")
  assert [code for code, _ in found] == [1, 1]
  for _, line in found:
    assert line.startswith(
      "collectives.faults.LostPeerError: step 2: got no sign of life from"
      " processes [1] for 8 s; expected all 3 in this operation; the transport"
      " said: "
    ), line


@pytest.mark.slow
def test_stopped_and_late_processes_are_named_and_nobody_hangs():
  [(code, line)] = _survivors(2, process_1="SIGSTOP", process_2="late")
  assert code == 1
  assert line == (
    "LostPeerError: step 2: not done in 2 s, got no sign of life from processes"
    " [1] for 8 s; got processes that have not come here: process 2 is after"
    " 'step 1'; expected all 3 in this operation"
  )
