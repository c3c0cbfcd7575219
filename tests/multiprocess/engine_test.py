"""An engine in each of several processes serves as one does alone."""

import pytest

from tests.multiprocess import jobs


@pytest.mark.parametrize(
  ("algorithm", "devices"),
  [
    ("nvrar", 1),
    pytest.param("nvrar", 2, marks=pytest.mark.slow),
    pytest.param("xla", 2, marks=pytest.mark.slow),
  ],
)
def test_trap_18_two_processes_answer_as_one_device(algorithm, devices):
  out = jobs.run("engine_worker.py", algorithm, processes=2, devices=devices)
  said = [line for line in out.splitlines() if line.endswith(("same", "other"))]
  assert sorted(said) == ["[0] same", "[1] same"]


@pytest.mark.slow
def test_a_killed_process_ends_the_job_with_its_name():
  with pytest.raises(AssertionError, match="process 1 ended with signal SIGK"):
    jobs.run("engine_worker.py", "nvrar", 1, processes=2, devices=1)
