"""Transmission trees: by hand, and of a run."""

import numpy as np
import pytest

from research.systems.epicast import tree
from tests.systems.epicast import logs

# agent, step, event, by: 0 infects 1 and 2, 2 infects 3; 5 nobody.
_ROWS = (
  (0, -1, "infected", -1),
  (5, -1, "infected", -1),
  (0, 4, "presymptomatic", -1),
  (0, 6, "symptomatic", -1),
  (1, 7, "infected", 0),
  (2, 8, "infected", 0),
  (2, 13, "symptomatic", -1),
  (3, 15, "infected", 2),
  (0, 16, "recovered", -1),
  (5, 16, "recovered", -1),
  (2, 20, "recovered", -1),
)


def _log():
  agent, step, event, by = (
    np.array(column) for column in zip(*_ROWS, strict=True)
  )
  zero = np.zeros(len(agent), int)
  context = np.array(["work" if one >= 0 else None for one in by])
  return {
    "replicate": zero, "fips": zero + 1, "step": step, "day": step // 2,
    "agent": agent, "event": event, "by": by, "context": context,
  }  # fmt: skip


def test_a_tree_by_hand():
  found = tree.grow(_log())
  assert set(found) == set(tree.COLUMNS)
  assert found["infected"].tolist() == [0, 5, 1, 2, 3]
  assert found["infector"].tolist() == [None, None, 0, 0, 2]
  assert found["generation"].tolist() == [0, 0, 1, 1, 2]
  assert found["cases"].tolist() == [2, 0, 0, 1, 0]
  assert found["over"].tolist() == [True, True, False, True, False]
  nan = np.nan
  np.testing.assert_array_equal(
    found["generation_interval"], [nan, nan, 4, 4.5, 3.5]
  )
  np.testing.assert_array_equal(
    found["serial_interval"], [nan, nan, nan, 3.5, nan]
  )
  # Index cases on day -1; that of day 3 is not over, that of day 4 is.
  np.testing.assert_array_equal(
    tree.cohorts(found, 8), [1, nan, nan, nan, nan, 1, nan, nan, nan]
  )
  assert tree.shares(found, ("class", "work")).tolist() == [0, 1]


def test_an_infector_without_infection_is_refused():
  log = _log()
  log["by"][7] = 4
  with pytest.raises(RuntimeError, match="was never infected"):
    tree.grow(log)


def test_a_tree_of_a_run_is_one():
  log, _, _ = logs.alone()
  found = tree.grow(log)
  passed = found["generation"] > 0
  assert found["cases"].sum() == passed.sum() > 50
  assert len(np.unique(found["infected"])) == len(found["infected"])
  generation = dict(zip(found["infected"], found["generation"], strict=True))
  for agent, by in zip(
    found["infected"][passed], found["infector"][passed], strict=True
  ):
    assert generation[agent] == generation[by] + 1
  # E lasts a day at least; the longest course is 7 days, one, and 9.
  intervals = found["generation_interval"][passed]
  assert 1 <= intervals.min() <= intervals.max() <= 17
