"""An epidemic over processes is that of one device."""

import pytest

from tests.multiprocess import jobs


@pytest.mark.slow
def test_trap_02_two_processes_change_no_bit():
  out = jobs.run("epidemic_worker.py", processes=2, devices=2)
  rows = [line.split() for line in out.splitlines()]
  digests = [row[1:] for row in rows if row[0] in ("[0]", "[1]")]
  digests = [row for row in digests if len(row) == 2 and len(row[0]) == 64]
  assert len(digests) == 2, out
  assert len({digest for row in digests for digest in row}) == 1
