"""The bench of the engine, within one process: no times, but all the rest."""

import pytest

from experiments.tools import (
  inference_cases,
  step_split,
  timed_inference,
  timed_models,
)

_CASES = ("tp:nvrar", "hybrid:xla")


@pytest.fixture(scope="module")
def found():
  bench = timed_inference.Bench(
    collective="all_reduce",
    algorithms=_CASES,
    shape={"node": 2, "local": 1},
    dtype="float32",
    op="sum",
    warmup=1,
    iters=2,
    model=timed_models.wide(1, 32),
    batch=2,
    works=(inference_cases.Work(20, 1),),
    pieces=32,
  )
  return bench.cases()


def test_each_case_has_its_times_and_its_answers(found):
  rows, cases = found
  assert [row.algorithm for row in rows] == [case.name for case in cases]
  assert [case.name for case in cases] == list(_CASES)
  for row, case in zip(rows, cases, strict=True):
    assert len(row.times_us) == 2
    assert row.size == 2 * 32 * 4  # requests, width, bytes
    assert case.work == "20+1"
    assert (case.drawn, case.different) == (2, 0)
    assert case.steps == 2  # 20 tokens are two blocks, of which a step has two


def test_the_split_is_that_of_the_recorded_batch(found):
  tensor, hybrid = found[1]
  for case in (tensor, hybrid):
    assert set(case.split) == set(step_split.GROUPS)
    assert sum(case.split.values()) == pytest.approx(case.profiled)
    assert min(case.split.values()) >= 0
    assert case.split["matmul"] > 0
    assert case.split["transfer"] > 0
  assert tensor.split["all_reduce"] > 0
  assert hybrid.split["all_reduce"] < tensor.split["all_reduce"]


@pytest.mark.parametrize("text", ["128", "0+2", "128+", "12+3+4"])
def test_bad_work_has_one_line(text):
  with pytest.raises(ValueError, match="got the work .* expected tokens to"):
    inference_cases.parse_work(text)


@pytest.mark.parametrize("strategy", inference_cases.STRATEGIES)
def test_every_strategy_uses_all_ranks(strategy):
  pipe, node, local = inference_cases.axes(strategy, 4, 2).values()
  assert pipe * node * local == 8


def test_the_first_layers_of_a_decoder():
  whole = timed_models.wide(3, 32)
  model = timed_models.first_layers(whole, 2)
  assert model.config.num_layers == len(model.state["blocks"]) == 2
  assert timed_models.first_layers(whole, 9).config == whole.config
