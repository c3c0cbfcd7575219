"""Every algorithm is proved for all sizes, and every mutant is caught."""

import dataclasses

import pytest

from collectives import algorithms, verifier
from collectives import schedule as sched

_SIZES = (1, 2, 3, 4, 5, 8)
_FORMS = [
  (name, collective)
  for name, algorithm in algorithms.ALGORITHMS.items()
  for collective in algorithm.forms
]


def _build(name, collective, *grid):
  return algorithms.find(name, collective).schedule(
    collective, sched.Grid(*grid)
  )


def _with_steps(schedule, steps, number=0):
  """Puts other steps in place of those of a phase."""
  phases = list(schedule.phases)
  phases[number] = dataclasses.replace(phases[number], steps=tuple(steps))
  return dataclasses.replace(schedule, phases=tuple(phases))


@pytest.mark.parametrize(("name", "collective"), _FORMS)
def test_trap_03_every_size_is_right_and_costs_what_the_formula_says(
  name, collective
):
  algorithm = algorithms.ALGORITHMS[name]
  if algorithm.hierarchical:
    grids = [sched.Grid(n, g) for n in _SIZES for g in _SIZES]
  else:
    grids = [sched.Grid(p) for p in range(1, 65)]
  for grid in grids:
    schedule = algorithm.schedule(collective, grid)
    verifier.verify(schedule, algorithm.forms[collective].cost(grid))


def test_more_than_64_ranks():
  schedule = _build("recursive_doubling", "all_reduce", 100)
  assert verifier.verify(schedule).steps == 8
  with pytest.raises(verifier.ScheduleError, match=r"expected \[0, .* 99\]"):
    verifier.verify(_with_steps(schedule, schedule.steps[:-1]))


def test_published_costs():
  """Independent of our formulas: the rows of textbooks, 16 ranks, 4 x 4."""
  for name, grid, steps, sent in (
    ("ring", (16,), 30, 30 / 16),
    ("recursive_doubling", (16,), 4, 4),
    ("rabenseifner", (16,), 8, 30 / 16),
    ("bruck", (16,), 8, 30 / 16),
    ("double_tree", (16,), 8, 2),
    ("nvrar", (4, 4), 2, 2 / 4),
    ("hierarchical_tree", (4, 4), 4, 2 / 4),
    ("pccl_ring", (4, 4), 6, 6 / 16),
    ("pccl_recursive", (4, 4), 4, 6 / 16),
  ):
    cost = verifier.count(_build(name, "all_reduce", *grid))
    assert (cost.steps, cost.sent) == (steps, sent), name


@pytest.mark.parametrize("name", ["ring", "recursive_doubling", "nvrar"])
def test_mutant_dropped_step(name):
  schedule = _build(name, "all_reduce", 4)
  with pytest.raises(
    verifier.ScheduleError,
    match=r"rank \d slot \d ends with contributions of ranks \[.*\], expected "
    r"\[0, 1, 2, 3\]",
  ):
    verifier.verify(_with_steps(schedule, schedule.phases[0].steps[:-1]))


@pytest.mark.parametrize(("name", "grid"), [("ring", (4,)), ("nvrar", (4, 2))])
def test_mutant_dropped_wait(name, grid):
  """A rank sends before what it waits for is there: two steps become one."""
  schedule = _build(name, "all_reduce", *grid)
  number = len(schedule.phases) // 2
  first, second, *rest = schedule.phases[number].steps
  mutant = _with_steps(schedule, [(*first, *second), *rest], number)
  with pytest.raises(verifier.ScheduleError):
    verifier.verify(mutant)


def test_mutant_dropped_receive():
  ranks = verifier.programs(_build("recursive_doubling", "all_reduce", 4))
  verifier.check_progress(ranks)
  ranks[1][0] = [op for op in ranks[1][0] if op.kind == "send"]
  ranks[1].pop()
  with pytest.raises(
    verifier.ScheduleError, match="deadlock: rank 0 waits for rank 1 which has"
  ):
    verifier.check_progress(ranks)


def test_mutant_all_send_before_they_receive():
  ranks = verifier.programs(_build("ring", "all_gather", 3))
  ranks = [
    [[op] for turn in turns for op in sorted(turn)[::-1]] for turns in ranks
  ]
  with pytest.raises(
    verifier.ScheduleError,
    match="deadlock: rank 0 waits for rank 1 which waits for rank 2 which "
    "waits for rank 0$",
  ):
    verifier.check_progress(ranks)


@pytest.mark.parametrize("name", ["ring", "bruck", "recursive"])
def test_mutant_swapped_block(name):
  schedule = _build(name, "all_gather", 4)
  (first, second, *rest), *steps = schedule.steps
  swapped = (
    first._replace(slots=second.slots),
    second._replace(slots=first.slots),
    *rest,
  )
  with pytest.raises(verifier.ScheduleError, match="but holds nothing there"):
    verifier.verify(_with_steps(schedule, [swapped, *steps]))


def test_mutant_swapped_block_while_reducing():
  schedule = _build("ring", "reduce_scatter", 4)
  (first, second, *rest), *steps = schedule.steps
  swapped = (
    first._replace(slots=second.slots),
    second._replace(slots=first.slots),
    *rest,
  )
  with pytest.raises(verifier.ScheduleError, match="comes a second time"):
    verifier.verify(_with_steps(schedule, [swapped, *steps]))


def test_mutant_reused_slot():
  """Messages land in the slot that is being sent, not in one of their own."""
  schedule = _build("recursive_doubling", "all_reduce", 4)
  steps = [
    tuple(transfer._replace(action="copy") for transfer in step)
    for step in schedule.steps
  ]
  with pytest.raises(
    verifier.ScheduleError,
    match="rank 0 slot 0 is overwritten in the step that sends it",
  ):
    verifier.verify(_with_steps(schedule, steps))


def test_mutant_reused_slot_for_two_messages():
  schedule = _build("double_tree", "all_reduce", 4)
  steps = [
    tuple(transfer._replace(action="copy") for transfer in step)
    for step in schedule.steps
  ]
  with pytest.raises(
    verifier.ScheduleError, match="is used for two messages of a step"
  ):
    verifier.verify(_with_steps(schedule, steps))


@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize("name", ["pccl_ring", "pccl_recursive"])
def test_trap_05_mutant_missing_shuffle(name, collective):
  schedule = _build(name, collective, 2, 4)
  assert schedule.shuffled
  with pytest.raises(verifier.ScheduleError):
    verifier.verify(dataclasses.replace(schedule, shuffled=False))


@pytest.mark.parametrize("name", ["pccl_ring", "pccl_recursive"])
def test_trap_05_mutant_wrong_scatter_axis(name):
  """Within nodes it scatters over every fourth slot instead of runs."""
  schedule = _build(name, "reduce_scatter", 2, 4)
  steps = sched.place(
    schedule.phases[0].steps,
    lambda rank: rank,
    lambda slot: (slot % 2 * 4 + slot // 2,),
  )
  with pytest.raises(
    verifier.ScheduleError, match="do not do a reduce_scatter over runs of 2"
  ):
    verifier.verify(_with_steps(schedule, steps))
  unmarked = dataclasses.replace(schedule.phases[0], steps=steps, native=None)
  phases = (unmarked, *schedule.phases[1:])
  with pytest.raises(verifier.ScheduleError, match="ends with contributions"):
    verifier.verify(dataclasses.replace(schedule, phases=phases))


def test_mutant_counted_twice():
  schedule = _build("recursive_doubling", "all_reduce", 4)
  with pytest.raises(
    verifier.ScheduleError,
    match=r"slot 0: contribution of rank \d comes a second time, from rank \d",
  ):
    verifier.verify(_with_steps(schedule, schedule.steps * 2))


def test_mutant_crosses_nodes():
  schedule = _build("nvrar", "all_reduce", 2, 2)
  steps = ((sched.Transfer(0, 2, (0,), "reduce"),),)
  with pytest.raises(
    verifier.ScheduleError,
    match="phase local scatter is of level local: got a message from rank 0 to "
    "2 with 2 ranks a node",
  ):
    verifier.verify(_with_steps(schedule, steps))


@pytest.mark.parametrize(
  ("transfer", "message"),
  [
    (
      (0, 0, (0,), "reduce"),
      "got a message from rank 0 to 0, expected two of 2 ranks",
    ),
    (
      (0, 2, (0,), "reduce"),
      "got a message from rank 0 to 2, expected two of 2 ranks",
    ),
    ((0, 1, (1,), "reduce"), r"rank 0 sends slots \(1,\), expected some of 1"),
    ((0, 1, (), "reduce"), r"rank 0 sends slots \(\), expected some of 1"),
  ],
)
def test_messages_that_cannot_be(transfer, message):
  schedule = _build("recursive_doubling", "all_reduce", 2)
  steps = ((sched.Transfer(*transfer),),)
  with pytest.raises(verifier.ScheduleError, match=message):
    verifier.verify(_with_steps(schedule, steps))


def test_wrong_formula():
  schedule = _build("ring", "all_reduce", 4)
  with pytest.raises(
    verifier.ScheduleError, match=r"cost: got Cost\(steps=6, .* by the formula"
  ):
    verifier.verify(schedule, algorithms.Cost(5, verifier.count(schedule).sent))
