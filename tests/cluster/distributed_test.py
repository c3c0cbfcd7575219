import os
import subprocess
import sys

import pytest

from research import cluster
from research.cluster import distributed


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch):
  for name in (
    distributed.COORDINATOR,
    distributed.NUM_PROCESSES,
    distributed.PROCESS_ID,
  ):
    monkeypatch.delenv(name, raising=False)


def test_setup_does_nothing_alone():
  hook, leave = sys.excepthook, sys.exit
  cluster.setup()
  assert (sys.excepthook, sys.exit) == (hook, leave)


def test_incomplete_coordinates_are_named(monkeypatch: pytest.MonkeyPatch):
  monkeypatch.setenv(distributed.COORDINATOR, "127.0.0.1:1")
  with pytest.raises(RuntimeError) as caught:
    cluster.setup()
  assert str(caught.value) == (
    "got a multi-process job without DECTET_NUM_PROCESSES, DECTET_PROCESS_ID;"
    " expected all of DECTET_COORDINATOR, DECTET_NUM_PROCESSES,"
    " DECTET_PROCESS_ID; start it with python -m research.cluster.launch"
  )


def test_importing_the_package_does_not_import_jax():
  script = "import sys, research.cluster; print('jax' in sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", script],
    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout == "False\n"


def test_asked_for_a_cluster_that_is_not_there():
  # In a process of its own: JAX may keep state after a failed start.
  script = "from research import cluster; cluster.setup(detect_cluster=True)"
  env = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
  done = subprocess.run(
    [sys.executable, "-c", script],
    env=env | {"PYTHONPATH": os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert "got no cluster to join" in done.stderr.splitlines()[-1]
  assert "python -m research.cluster.launch" in done.stderr.splitlines()[-1]
