"""What learns to choose, on small grids of made-up and simulated times."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from collectives import machines
from collectives import schedule as sched
from collectives.dispatch import (
  cells,
  choices,
  evaluation,
  learners,
  simulated,
  svm,
  table,
  tuning,
)
from tests.collectives.dispatch import timed

_NODES, _POWERS = (2, 4, 8, 16), range(12, 24, 2)

needs_sklearn = pytest.mark.skipif(
  importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn"
)


def _regrets(choose, truth):
  return [one.regret(choose(one.grid, one.nbytes)) for one in truth]


def _noisy(truth, seed=0):
  return cells.noisy(truth, np.random.default_rng(seed))


def test_the_table_finds_what_lies_between_its_cells():
  truth = timed.square(_NODES, _POWERS)
  between = timed.square((4, 8), range(13, 23, 2))
  assert len({one.best for one in between}) >= 2
  choose = table.learn("all_reduce", truth)
  assert np.mean(_regrets(choose, between)) < 1e-3


def _slow(truth, factor):
  """NVRAR is slow on 8 nodes, for a reason that no formula has."""
  return [
    dataclasses.replace(
      one, seconds={**one.seconds, "nvrar": one.seconds["nvrar"] * factor}
    )
    if one.grid.nodes == 8
    else one
    for one in truth
  ]


def test_the_table_corrects_what_the_model_does_not_know():
  odd = _slow(timed.square(_NODES, _POWERS), 4)
  choose = table.learn("all_reduce", odd)
  model = learners.model("all_reduce", odd, gloo=True)
  assert np.mean(_regrets(choose, odd)) < 0.02
  assert np.mean(_regrets(model, odd)) > 0.1  # or there is nothing to correct


def test_what_was_timed_comes_before_what_was_learned():
  """An odd cell, and a learner that has not understood it."""
  odd = _slow(timed.square(_NODES, _POWERS), 100)
  _, exported = _trained(odd, lambda *_: lambda *_: "nvrar")
  assert max(_regrets(lambda *_: "nvrar", odd)) > 1
  for one in odd:
    got = exported.choose("all_reduce", one.nbytes, "float32", one.grid)
    assert one.regret(got.algorithm) <= tuning.MARGIN


def test_static_is_the_one_of_least_mean_regret():
  two = [
    cells.Cell(sched.Grid(2), 8, {"a": 1.0, "b": 1.1, "c": 5.0}),
    cells.Cell(sched.Grid(2), 16, {"a": 9.0, "b": 1.1, "c": 1.0}),
  ]
  assert learners.static("all_reduce", two)(sched.Grid(2), 8) == "b"


def test_what_was_timed_on_some_grids_only_is_not_taken():
  truth = timed.square((2, 4), _POWERS)
  less = dataclasses.replace(truth[-1], seconds={"xla": 1.0, "pccl_ring": 2.0})
  choose = table.learn("all_reduce", [*truth[:-1], less])
  assert {choose(one.grid, one.nbytes) for one in truth} <= set(less.seconds)


@needs_sklearn
def test_the_svm_never_takes_what_was_not_timed_on_such_nodes():
  truth = timed.square((2, 4, 8), _POWERS)
  flat = timed.square((2, 4, 8), _POWERS, local=1)
  choose = svm.learn("all_reduce", truth + flat)
  for one in truth + flat:
    assert choose(one.grid, one.nbytes) in one.seconds
  assert np.mean(_regrets(choose, truth)) < 0.03


def _mean(score):
  return {name: one.mean_regret for name, one in score.items()}


@needs_sklearn
def test_trap_08_held_out_blocks_with_noise_ties_and_static_beside():
  """On a simulated machine; the oracle is right, and static is not."""
  names = ("xla", "nvrar", "pccl_ring", "pccl_recursive", "recursive_doubling")
  truth = simulated.simulate(
    machines.load("perlmutter"),
    *("all_reduce", names, (2, 4, 8, 16)),
    [1 << power for power in range(14, 28, 2)],
  )
  scores = evaluation.evaluate("all_reduce", _noisy(truth), truth)
  assert set(scores) == {
    *("table", "svm", "model", "static", "timed again", "oracle"),
  }
  assert scores["oracle"].top1 == scores["oracle"].strict == 1
  assert scores["oracle"].mean_regret == 0
  assert {score.cells for score in scores.values()} == {len(truth)}
  assert scores["table"].top1 >= 0.9
  assert scores["table"].mean_regret <= 0.03
  assert scores["svm"].mean_regret < scores["static"].mean_regret
  assert scores["static"].top1 < 0.7


def test_trap_08_what_is_held_out_is_never_seen():
  truth = timed.square(_NODES, _POWERS)
  seen = []

  def spy(collective, rest):
    seen.append({(one.grid.nodes, one.nbytes) for one in rest})
    return learners.static(collective, rest)

  def cheat(collective, rest):
    known = {(one.grid, one.nbytes): one.best for one in rest}
    return lambda grid, nbytes: known.get((grid, nbytes), "xla")

  compare = {"spy": spy, "memory": cheat}
  scores = evaluation.evaluate("all_reduce", truth, truth, compare=compare)
  every = {(one.grid.nodes, one.nbytes) for one in truth}
  held = [every - rest for rest in seen]
  assert all(len(one) == 4 for one in held)  # two numbers of nodes, two sizes
  assert set().union(*held) == every
  worst = [one.best == "xla" for one in truth]
  assert scores["memory"].strict == np.mean(worst)  # memory is of no use


def test_trap_08_other_ranks_of_the_same_nodes_and_size_are_held_out_too():
  truth = timed.square((2, 4), (12, 13), 2) + timed.square((2, 4), (12, 13), 4)
  for held in evaluation.blocks(truth, (1, 1)):
    assert {truth[i].grid.local for i in held} == {2, 4}


def test_trap_08_ties_are_counted_and_regret_is_the_truths():
  truth = [
    cells.Cell(sched.Grid(n), 8, {"a": 1.0, "b": 1.005, "c": 1.5})
    for n in (2, 4)
  ]
  timed_ = [
    dataclasses.replace(one, seconds={"a": 2.0, "b": 1.0, "c": 0.5})
    for one in truth
  ]

  def takes(name):
    return lambda *_: lambda *_: name

  scores = evaluation.evaluate(
    "all_reduce",
    *(timed_, truth),
    block=(1, 1),
    compare={name: takes(name) for name in "abc"},
  )
  assert (scores["b"].top1, scores["b"].strict, scores["b"].tied) == (1, 0, 2)
  assert scores["b"].mean_regret == pytest.approx(0.005)
  assert (scores["c"].top1, scores["c"].worst_regret) == (0, 0.5)
  assert scores["timed again"].mean_regret == pytest.approx(0.5)


def test_evaluation_refuses_what_cannot_be_compared():
  truth = timed.square((2, 4), (12, 13))
  with pytest.raises(ValueError, match="truth: got other grids or sizes"):
    evaluation.evaluate("all_reduce", truth, truth[::-1])
  with pytest.raises(ValueError, match="block: got all cells in one"):
    evaluation.evaluate("all_reduce", truth, truth)


def _trained(truth, learner):
  part = tuning.train(
    "all_reduce", truth, learner, dtypes=("float32",), gloo=True
  )
  return part, choices.Choices({"all_reduce": (part,)})


def test_what_is_exported_chooses_as_what_was_learned():
  truth = timed.square(_NODES, _POWERS) + timed.square((2, 4), _POWERS, 1)
  part, exported = _trained(truth, table.learn)
  assert sum(len(one.until) for one in part.ranges) > len(part.ranges)
  for one in truth:
    got = exported.choose("all_reduce", one.nbytes, "float32", one.grid)
    assert got.reason == "timings"
    assert one.regret(got.algorithm) < 0.01
  flat = [one for one in part.ranges if one.local == 1]
  assert flat
  assert not any(cells.hierarchical(n) for r in flat for _, n in r.until)


def test_grids_between_are_exported_and_those_beyond_are_the_models():
  nodes = (2, 8, 3, 6)
  _, exported = _trained(timed.square(nodes, (14, 16, 18)), table.learn)

  def reason(nodes, local=2):
    grid = sched.Grid(nodes, local)
    return exported.choose("all_reduce", 2**16, "float32", grid).reason

  known = [n for n in range(2, 12) if reason(n) == "timings"]
  assert known == [2, 3, 4, 5, 6, 8]
  assert reason(4, local=4) == "model"
  for count in (4, 5):
    one = timed.cell(count, 2, 2**16)
    got = exported.choose("all_reduce", one.nbytes, "float32", one.grid)
    assert one.regret(got.algorithm) < 0.05


def test_training_refuses_nothing_and_unknown_names():
  def train(some):
    return tuning.train(
      "all_reduce", some, learners.static, dtypes=("float32",), gloo=True
    )

  with pytest.raises(ValueError, match="cells: got none"):
    train([])
  with pytest.raises(ValueError, match="got 'rign'.*did you mean 'ring'"):
    train([cells.Cell(sched.Grid(2), 8, {"rign": 1.0})])


def _row(**changes):
  row = {
    "collective": "all_reduce",
    "algorithm": "ring",
    "size": 64,
    "dtype": "float32",
    "wrong": 0,
    "times_us": [1.0, 5.0, 3.0, 7.0],
  }
  return row | changes


def test_rows_become_cells_by_any_part_of_the_iterations():
  rows = [_row(), _row(algorithm="nvrar", times_us=[4.0, 2.0, 4.0, 2.0])]
  grid = sched.Grid(2, 2)
  (even,) = cells.read(rows, grid, slice(0, None, 2))
  (odd,) = cells.read(rows, grid, slice(1, None, 2))
  assert even.seconds == pytest.approx({"ring": 2e-6, "nvrar": 4e-6})
  assert odd.best == "nvrar"
  (flat,) = cells.read(rows, sched.Grid(4))
  assert list(flat.seconds) == ["ring"]


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ({"wrong": 3}, "got 3 wrong elements for ring at 64 bytes"),
    ({"contended": True}, "got times of a busy machine for ring at 64 bytes"),
    ({"collective": "all_gather"}, "got all_gather and all_reduce"),
    ({"algorithm": "xla", "size": 8}, "expected the same at all sizes"),
  ],
)
def test_rows_that_say_nothing_are_refused(row, message):
  with pytest.raises(ValueError, match=message):
    cells.read([_row(), _row(**row)], sched.Grid(2, 2))


def test_noise_leaves_the_medians_near_the_truth():
  truth = timed.square((2,), range(12, 30))
  ratios = [
    noisy.seconds[name] / one.seconds[name]
    for one, noisy in zip(truth, _noisy(truth), strict=True)
    for name in one.seconds
  ]
  assert 0.02 < np.std(np.log(ratios)) < 0.1
