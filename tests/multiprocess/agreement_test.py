"""Three processes that do not mean to run the same collectives."""

import os
import pathlib
import subprocess
import sys

from collectives.dispatch import choices

_HERE = pathlib.Path(__file__).parent


def _choices(path: pathlib.Path, algorithm: str) -> str:
  only = choices.Range(3, 1, 1, ((64, algorithm),))
  part = choices.Part(("float32",), (only,))
  choices.Choices({"all_reduce": (part,)}).save(path)
  return str(path)


def test_trap_12_processes_that_differ_or_are_late_are_named(tmp_path):
  files = [
    _choices(tmp_path / "usual.json", "bruck"),
    _choices(tmp_path / "other.json", "rabenseifner"),
  ]
  worker = [sys.executable, str(_HERE / "agreement_worker.py"), *files]
  launch = [sys.executable, "-m", "research.cluster.launch", "-n", "3"]
  done = subprocess.run(
    [*launch, "--devices=1", "--", *worker],
    env=os.environ | {"PYTHONPATH": str(_HERE.parents[1])},
    capture_output=True,
    text=True,
    timeout=100,
  )
  said = {
    "algorithms": 'line 2 is "schedule_sum of float32[2]:'
    " algorithm=recursive_doubling, axes=('node',), chunks=1\" on process 2,"
    ' elsewhere "schedule_sum of float32[2]: algorithm=ring,'
    " axes=('node',), chunks=1\"; give all processes the same",
    "choices": 'line 2 is "schedule_sum of float32[2]: algorithm=rabenseifner',
    "shapes": 'line 2 is "schedule_sum of float32[3]: algorithm=ring',
  }
  lines = done.stdout.splitlines()
  for i in range(3):  # every process says so, and nobody says it of "same"
    own = [line for line in lines if line.startswith(f"[{i}] ")]
    for name, where in said.items():
      start = (
        f"[{i}] {name}: got another plan on processes [2], expected that of"
        f" the other 2; {where}"
      )
      assert sum(line.startswith(start) for line in own) == 1, done.stdout
    assert not any("same:" in line for line in own)
  assert done.returncode == 1
  assert (
    "LostPeerError: late: got no plan from processes [1] in 1 s; expected all 3"
    " to check 'late'" in done.stderr
  )
