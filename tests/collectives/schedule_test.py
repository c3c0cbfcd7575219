import dataclasses
import json

import numpy as np
import pytest

from collectives import algorithms, trace
from collectives import schedule as sched


def _build(name, collective, grid, chunks=1):
  return algorithms.find(name, collective).schedule(collective, grid, chunks)


def test_prints_a_line_for_each_step():
  assert str(_build("pccl_ring", "all_gather", sched.Grid(2, 2))) == (
    "pccl_ring all_gather: 2 x 2 ranks, 4 slots, 1 chunks, shuffled\n"
    "gather across (node)\n"
    "  0>2:0 2>0:1 1>3:2 3>1:3\n"
    "local gather (local)\n"
    "  0>1:0,1 1>0:2,3 2>3:0,1 3>2:2,3"
  )


def test_chunks_follow_one_another():
  schedule = _build("ring", "all_gather", sched.Grid(4), chunks=2)
  assert list(schedule.timeline()) == [
    [(0, 0)],
    [(0, 1), (1, 0)],
    [(0, 2), (1, 1)],
    [(1, 2)],
  ]


def test_one_rank_has_nothing_to_do():
  for name, algorithm in algorithms.ALGORITHMS.items():
    for collective in algorithm.forms:
      schedule = _build(name, collective, sched.Grid(1, 1), chunks=3)
      assert not schedule.steps
      assert not list(schedule.timeline())


def test_a_schedule_is_a_value():
  one = _build("nvrar", "all_reduce", sched.Grid(3, 2))
  assert one == _build("nvrar", "all_reduce", sched.Grid(3, 2))
  with pytest.raises(dataclasses.FrozenInstanceError):
    setattr(one, "slots", 3)  # noqa: B010
  assert len({one, dataclasses.replace(one, chunks=2)}) == 2


@pytest.mark.parametrize(
  "step",
  [
    sched.Shift(5, 1, (-3,), "copy"),
    sched.Shift(6, -2, (0, 1, 2), "reduce"),
  ],
  ids=["ring", "bruck"],
)
def test_a_shift_is_its_messages(step):
  plain = tuple(step)
  assert len(plain) == len(step) == len(set(plain))
  assert (step[-1], step[1:3]) == (plain[-1], plain[1:3])
  for ours, theirs in zip(
    sched.columns(step), sched.columns(plain), strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)
  (ours,), (theirs,) = sched.permutations(step), sched.permutations(plain)
  for part in ("src", "dst", "slots", "reduce"):
    np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
  (ours,), (theirs,) = sched.reverse([step]), sched.reverse([plain])
  assert set(ours) == set(theirs)
  again = sched.Shift(step.size, step.hop, step.offsets, step.action)
  assert (step, hash(step)) == (again, hash(again))


def test_long_schedules_are_small():
  """The ring of 4,096 ranks has 17 million messages."""
  ring = _build("ring", "all_reduce", sched.Grid(512, 8))
  assert len(ring.steps) == 2 * 4095
  assert ring.steps[-1][4095] == sched.Transfer(4095, 0, (1,), "copy")
  assert ring.steps[0][0] == sched.Transfer(0, 4095, (1,), "reduce")


def test_trace_shows_every_message(tmp_path):
  schedule = _build("nvrar", "all_reduce", sched.Grid(2, 2), chunks=2)
  path = tmp_path / "trace.json"
  trace.save(schedule, path)
  events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
  slices = [event for event in events if event["ph"] == "X"]
  messages = 2 * sum(len(step) for step in schedule.steps)
  assert len(slices) == 2 * messages
  assert {event["pid"] for event in slices} == {0, 1}
  starts = {event["id"]: event for event in events if event["ph"] == "s"}
  ends = {event["id"]: event for event in events if event["ph"] == "f"}
  assert len(starts) == len(ends) == messages
  assert all(starts[i]["ts"] < ends[i]["ts"] for i in starts)


def test_unknown_names_are_answered_with_a_close_one():
  with pytest.raises(
    ValueError,
    match=r"algorithm for all_reduce: got 'nvrr', expected one of \['xla', "
    r"'ring', .*\]; did you mean 'nvrar'\?",
  ):
    algorithms.find("nvrr", "all_reduce")
  with pytest.raises(ValueError, match="algorithm for all_gather: got 'nvrar'"):
    algorithms.find("nvrar", "all_gather")
