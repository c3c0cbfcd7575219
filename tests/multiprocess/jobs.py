"""Runs a worker of this folder as several processes."""

import os
import pathlib
import subprocess
import sys

_HERE = pathlib.Path(__file__).parent


def run(
  worker: str, *args: str | int | pathlib.Path, processes: int, devices: int
) -> str:
  """Returns what a job printed; fails unless it ended well.

  Args:
    worker: name of its file.
    *args: its arguments.
    processes: how many processes.
    devices: CPU devices of each.
  """
  done = subprocess.run(
    [
      *(sys.executable, "-m", "research.cluster.launch"),
      *("-n", str(processes), f"--devices={devices}", "--"),
      *(sys.executable, str(_HERE / worker), *map(str, args)),
    ],
    env=os.environ | {"PYTHONPATH": str(_HERE.parents[1])},
    capture_output=True,
    text=True,
    timeout=1200,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout
