"""Results of every algorithm over processes: numpy's, the same on all ranks."""

import collections

import pytest

from collectives import algorithms
from tests.multiprocess import jobs

_FORMS = [
  (name, collective)
  for name, algorithm in algorithms.ALGORITHMS.items()
  for collective in algorithm.forms
]
_SMALL = (0, 1, 7)


def _check(processes: int, devices: int, lengths: tuple[int, ...]) -> None:
  out = jobs.run(
    "results_worker.py",
    *(processes, devices, *lengths),
    processes=processes,
    devices=devices,
  )
  digests = collections.defaultdict(list)
  for line in out.splitlines():
    match line.split()[1:]:
      case [name, collective, length, digest] if (name, collective) in _FORMS:
        digests[name, collective, int(length)].append(digest)
  assert set(digests) == {(*form, n) for form in _FORMS for n in lengths}
  for case, found in digests.items():
    assert len(found) == processes * devices, case
    if case[1] != "reduce_scatter":  # there every rank has its own part
      assert len(set(found)) == 1, case


def test_trap_04_results_over_two_processes_of_two_devices():
  _check(2, 2, _SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("devices", [1, 2, 3, 4])
def test_trap_04_results_over_processes_and_devices(processes, devices):
  _check(processes, devices, (*_SMALL, 1001, 10**6))
