import collections

import pytest

from experiments.tools import check_simulator, simgrid


def _worst(rows):
  return max(
    abs(ours / theirs - 1)
    for _, _, theirs, ours in check_simulator.deviations(rows)
  )


def test_the_record_is_of_all_cases():
  rows = list(check_simulator.load())
  cases = list(check_simulator.cases())
  assert list(dict.fromkeys(case for case, _, _ in rows)) == cases
  assert len(rows) == len(cases) * len(check_simulator.SIZES)
  grids = collections.defaultdict(set)
  for case in cases:
    if case.native:
      grids[case.algorithm, case.collective].add(case.network.grid.size)
  assert sum(sizes == {8, 12, 64, 256} for sizes in grids.values()) >= 5


def test_trap_09_within_5_percent_of_simgrid():
  """All cases of few ranks; of many, those without long rings."""
  rows = [
    row
    for row in check_simulator.load()
    if row[0].network.grid.size < 64
    or ("ring" not in row[0].algorithm and row[1] in (3072, 786432))
  ]
  assert len(rows) > 200
  assert _worst(rows) < 0.05


@pytest.mark.slow
def test_trap_09_within_5_percent_of_simgrid_everywhere():
  assert _worst(list(check_simulator.load())) < 0.05


def test_simgrid_reads_schedules():
  case = check_simulator.Case("nvrar", "all_reduce", None, 2, 2)
  lines = simgrid.describe(case.schedule).splitlines()
  assert lines[0] == "2"  # slots
  assert lines[1:5] == ["0 1 0 1", "0 0 1 1", "0 3 2 1", "0 2 3 1"]
  assert lines[-1] == "2 3 2 1"


def test_without_simgrid_one_line_says_so(monkeypatch):
  monkeypatch.setattr(simgrid.shutil, "which", lambda name: None)
  with pytest.raises(simgrid.Missing, match="libsimgrid-dev"):
    simgrid.version()
