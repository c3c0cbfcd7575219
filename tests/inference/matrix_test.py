"""Greedy answers to 200 real prompts: the same however they are computed."""

import dataclasses
import json

import pytest

from collectives import algorithms
from research import mesh as mesh_lib
from research.data import artifacts
from research.inference import engine as engine_lib
from research.inference import parallel, speculation
from research.inference.request import Request
from tests.inference import invariants, real_prompts
from tests.multiprocess import jobs

_COUNT, _TOKENS = 200, real_prompts.TOKENS
_SETTINGS = real_prompts.SETTINGS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def prompts(smollm2_words) -> list[list[int]]:
  try:
    return real_prompts.prompts(smollm2_words, _COUNT)
  except artifacts.ArtifactError as error:
    pytest.skip(str(error))


@pytest.fixture(scope="module")
def judge(smollm2) -> real_prompts.Judge:
  return real_prompts.Judge(smollm2)


@pytest.fixture(scope="module")
def _compiled(smollm2) -> engine_lib.Engine:
  drafter = speculation.PromptLookup()
  return engine_lib.Engine(smollm2, _SETTINGS, drafter=drafter)


@pytest.fixture
def make_engine(smollm2, _compiled):
  def make(settings=_SETTINGS, **options) -> engine_lib.Engine:
    engine = engine_lib.Engine(smollm2, settings, **options)
    engine.runner._steps = _compiled.runner._steps
    return engine

  return make


def _answers(engine, prompts, tokens: int = _TOKENS) -> list[list[int]]:
  requests = [
    Request(prompt, max_tokens=tokens, ignore_eos=True) for prompt in prompts
  ]
  found = engine.generate(requests)
  invariants.check(engine)
  return [list(one.tokens) for one in found]


@pytest.fixture(scope="module")
def expected(smollm2, _compiled, prompts) -> list[list[int]]:
  """One prompt after another, nothing shared."""
  settings = dataclasses.replace(_SETTINGS, prefix_cache=False)
  engine = engine_lib.Engine(smollm2, settings)
  engine.runner._steps = _compiled.runner._steps
  return [_answers(engine, [prompt])[0] for prompt in prompts]


@pytest.fixture
def check(judge, prompts, expected):
  """Counts near ties; anything else that differs is an error."""

  def compare(found: list[list[int]]) -> None:
    ties = 0
    for prompt, want, ours in zip(prompts, expected, found, strict=True):
      if ours != want:
        assert judge.near_tie(prompt, want, ours), (prompt, want, ours)
        ties += 1
    print(f"{ties} near ties of {len(prompts)}")
    assert ties <= 0.01 * len(prompts)

  return compare


def test_trap_13_alone_every_token_is_the_models_most_likely(
  judge, prompts, expected
):
  wrong = map(judge.wrong, prompts, expected)
  assert sum(wrong) == 0
  assert len({tuple(answer) for answer in expected}) > 0.5 * _COUNT


def test_batched_with_strangers_and_shared_prefixes(
  make_engine, prompts, check
):
  engine = make_engine()
  check(_answers(engine, prompts))
  assert engine.scheduler.memory.cache.hit > _COUNT * 16
  check(_answers(engine, prompts))  # all from the cache


def test_without_prefix_cache(make_engine, prompts, check):
  settings = dataclasses.replace(_SETTINGS, prefix_cache=False)
  check(_answers(make_engine(settings), prompts))


def test_in_small_pieces(smollm2, prompts, check):
  settings = dataclasses.replace(_SETTINGS, rows=(16,), pieces=(32,))
  check(_answers(engine_lib.Engine(smollm2, settings), prompts))


def test_preempted(smollm2, prompts, judge, check):
  """Sequences grow by six pages, of which admission leaves each one."""
  settings = dataclasses.replace(
    _SETTINGS, rows=(16,), page_size=4, num_pages=160, prefix_cache=False
  )
  engine = engine_lib.Engine(smollm2, settings)
  found = _answers(engine, prompts, tokens=24)
  check([answer[:_TOKENS] for answer in found])
  assert sum(map(judge.wrong, prompts, found)) == 0
  assert engine.scheduler.preemptions > 10


def test_speculative_by_the_prompt(make_engine, prompts, check):
  engine = make_engine(drafter=speculation.PromptLookup(shortest=1))
  check(_answers(engine, prompts))
  assert 100 < engine.accepted < engine.drafted


def test_speculative_by_a_model_of_fewer_layers(
  make_engine, smollm2_start, prompts, check
):
  small = engine_lib.Engine(smollm2_start, _SETTINGS)
  engine = make_engine(drafter=speculation.DraftModel(small, context=8192))
  check(_answers(engine, prompts))
  assert engine.drafted > 100


_LAYOUTS = {
  "TP 2": ({"node": 2, "local": 1}, "nvrar"),
  "TP 3, heads": ({"node": 1, "local": 3}, "xla"),
  "TP 4": ({"node": 2, "local": 2}, "nvrar"),
  "TP 8": ({"node": 2, "local": 4}, "nvrar"),
  "PP 2": ({"pipe": 2, "node": 1, "local": 1}, "xla"),
  "TP 2 x PP 2": ({"pipe": 2, "node": 1, "local": 2}, "nvrar"),
  **{
    f"TP 2, {name}": ({"node": 2, "local": 1}, name)
    for name in algorithms.names("all_reduce")
  },
}


@pytest.mark.parametrize("name", _LAYOUTS)
def test_trap_18_over_ranks_and_stages(smollm2, prompts, check, name):
  shape, algorithm = _LAYOUTS[name]
  layout = parallel.Split(mesh=mesh_lib.make_mesh(shape), algorithm=algorithm)
  settings = dataclasses.replace(_SETTINGS, rows=(16,))
  check(_answers(engine_lib.Engine(smollm2, settings, layout=layout), prompts))


def test_trap_18_in_two_processes(prompts, check, tmp_path):
  asked, answers = tmp_path / "prompts.json", tmp_path / "answers.json"
  asked.write_text(json.dumps(prompts), encoding="utf-8")
  jobs.run("matrix_worker.py", asked, answers, "nvrar", processes=2, devices=1)
  found = [
    json.loads(tmp_path.joinpath(f"answers.json.{rank}").read_text("utf-8"))
    for rank in range(2)
  ]
  assert found[0] == found[1]
  check(found[0])
