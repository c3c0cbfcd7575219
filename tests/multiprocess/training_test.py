"""Training over processes is that of one device."""

import pytest

from tests.multiprocess import jobs

_TOLERANCE = 2e-6  # as in tests/systems/pccl/training_test.py


@pytest.mark.parametrize(
  ("kind", "algorithm"),
  [
    ("zero3", "pccl_recursive"),
    pytest.param("ddp", "nvrar", marks=pytest.mark.slow),
  ],
)
def test_trap_13_training_over_two_processes_is_that_of_one_device(
  kind, algorithm
):
  out = jobs.run("training_worker.py", kind, algorithm, processes=2, devices=2)
  rows = [line.split() for line in out.splitlines()]
  for process in ("[0]", "[1]"):
    [row] = [row[1:] for row in rows if row[0] == process and len(row) == 4]
    losses, weights, trained = map(float, row)
    assert max(losses, weights) < _TOLERANCE < trained / 1000, row


@pytest.mark.slow
def test_a_second_run_finds_a_compile_cache_and_is_right(tmp_path, monkeypatch):
  """Programs read back from it run independent collectives in any order."""
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
  for _ in range(2):
    test_trap_13_training_over_two_processes_is_that_of_one_device(
      "zero3", "pccl_recursive"
    )
