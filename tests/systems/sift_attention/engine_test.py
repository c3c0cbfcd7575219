"""Sifted attention in the engine: each answer is that of its sequence alone."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import programs
from research.inference import batch, cached, parallel, sampling, speculation
from research.inference import engine as engine_lib
from research.inference import generation as generation_lib
from research.inference.request import Request, RequestError
from research.systems.sift_attention import generation, selection
from research.systems.sift_attention.policies import control, law, rules
from research.transformer import attention, cache
from research.transformer.checkpoints import model as model_lib
from tests import tiny as tiny_lib
from tests.inference import invariants

_SETTINGS = engine_lib.Settings(
  num_pages=48, page_size=8, rows=(4,), pieces=(16,), block=8
)
_TOKENS = 20
_LAW = law.PowerLaw(warmup=6, skip=1)
_SPECS = {
  "law": generation.Sifted(_LAW, prompt_rows=0),
  "controlled rule": generation.Sifted(
    control.Controlled(rules.RelativeToMax(1.0), 0.3),
    selection.Always(sinks=1, newest=3),
    prompt_rows=0,
  ),
  "rule, second layer": generation.Sifted(
    rules.RelativeToMax(1.0), layers=(False, True), prompt_rows=0
  ),
}


@pytest.fixture(scope="module")
def tiny():
  return tiny_lib.chaotic()


@pytest.fixture(scope="module")
def requests():
  rng = np.random.default_rng(0)
  common = rng.integers(0, 256, 25).tolist()
  prompts = [rng.integers(0, 256, n).tolist() for n in (1, 9, 16, 30)]
  prompts += [[*common, 7], [*common, 8, 9]]
  return [Request(p, max_tokens=_TOKENS, ignore_eos=True) for p in prompts]


_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in [*_SPECS][1:]]


@pytest.fixture(scope="module", params=["law", *_SLOW])
def case(request, tiny, requests):
  """An engine's compiled steps, and what a generator answers to each."""
  spec = _SPECS[request.param]
  generator = generation_lib.Generator(tiny, attention=spec, page_size=8)
  greedy = [sampling.Sampling()]
  expected = []
  for one in requests:
    steps = generator.stream([one.prompt], greedy, max_tokens=_TOKENS)
    expected.append([int(tokens[0]) for tokens in steps])
  layout = parallel.Alone(spec)
  engine = engine_lib.Engine(tiny, _SETTINGS, layout=layout)
  return engine, expected


def _tokens(engine, requests) -> list[list[int]]:
  answers = [list(one.tokens) for one in engine.generate(requests)]
  invariants.check(engine)
  return answers


def _again(case, tiny, **settings) -> engine_lib.Engine:
  """Another engine with the same compiled steps."""
  engine, _ = case
  settings = dataclasses.replace(_SETTINGS, **settings)
  other = engine_lib.Engine(tiny, settings, layout=engine.runner.layout)
  other.runner._steps = engine.runner._steps
  return other


def test_among_strangers_and_from_the_prefix_cache(case, tiny, requests):
  engine, expected = case
  assert _tokens(engine, requests) == expected
  before = engine.scheduler.memory.cache.hit
  assert _tokens(engine, requests) == expected
  assert engine.scheduler.memory.cache.hit > before
  exact = engine_lib.Engine(tiny, _SETTINGS)
  found = _tokens(exact, requests)
  assert sum(a != b for a, b in zip(found, expected, strict=True)) > 1


def test_alone(case, tiny, requests):
  engine = _again(case, tiny, prefix_cache=False)
  for one, expected in zip(requests, case[1], strict=True):
    assert _tokens(engine, [one]) == [expected]


def test_preempted_and_parked(case, tiny, requests):
  """What is computed again is computed as it was."""
  engine = _again(case, tiny)
  allocator = engine.scheduler.memory.allocator
  allocator.take(allocator.num_free - 11)  # the others are somebody else's
  numbers = [engine.add(one) for one in requests]
  parked, found = numbers[1], {}
  for step in range(1000):
    if step == 12:
      engine.park(parked)
    if step == 15:
      engine.inject(parked, [])
    for number, _, completion in engine.step():
      if completion is not None:
        found[number] = list(completion.tokens)
    if not engine.has_work:
      break
  assert [found[number] for number in numbers] == case[1]
  assert engine.scheduler.preemptions


def test_what_an_answer_leaves_is_no_prompt(case, tiny, requests):
  """Keys of drawn tokens are of no use to a prompt of the same tokens."""
  engine = _again(case, tiny)
  prompt = list(requests[3].prompt)
  (answer,) = _tokens(engine, [requests[3]])
  longer = Request(prompt + answer, max_tokens=8, ignore_eos=True)
  fresh = _tokens(_again(case, tiny, prefix_cache=False), [longer])
  (after,) = engine.generate([longer])
  assert [list(after.tokens)] == fresh
  assert after.cached_tokens == len(prompt) // 8 * 8


def test_the_pool_is_updated_in_place(case):
  engine, _ = case
  runner = engine.runner
  pool = jax.tree.leaves(runner._carried)
  size = max(x.size for x in pool)
  for shape in runner.shapes:
    text = runner.compiled(shape).as_text()
    aliases = re.search(r"input_output_alias=\{(.*?)\}, entry", text, re.S)
    assert aliases
    assert aliases[1].count("-alias") == len(pool)
    for found in re.finditer(r"= \w+\[([\d,]+)\]\S* copy\(", text):
      assert np.prod([int(x) for x in found[1].split(",")]) < size


def test_rows_of_nobody_read_within_the_pool_and_ask_for_nothing(tiny):
  """Native code reads where the table says; a new law wants scores."""
  spec = _SPECS["law"]
  pool = cache.make_pool(tiny.config, num_pages=3, page_size=8)
  pages = cache.Pages(pool[0].k, jnp.full_like(pool[0].v, 7.0))
  (state, *_) = spec.init(tiny.config, [pages], 2)
  tokens = lambda heads: jnp.ones((2, 1, heads, tiny.config.head_dim))
  table = jnp.array([[1, 3], [3, 3]])  # no page has the number 3
  out, after = jax.jit(
    lambda q, k, v: spec.decode(table)(
      0, q, k, v, jnp.zeros((2, 1), int), state
    )
  )(tokens(4), tokens(2), tokens(2))
  np.testing.assert_array_equal(out[:, 0, 0, 0], [1.0, 7.0])
  assert (np.asarray(after.pages.v)[2] == 7).all()
  groups = attention.PagedGroups((), ())
  slots, fresh = jnp.array([2, 4]), jnp.array([False, False])
  step = cached.Slots(spec, tiny.config, groups, slots, fresh)
  (four, *_) = spec.init(tiny.config, [pages], 4)
  four = four._replace(policy=jax.tree.map(_by_slot, four.policy))
  taken = step._take(0, four).policy
  assert taken.seen[:, 0].tolist() == [2, 2]


def _by_slot(x: jax.Array) -> jax.Array:
  shape = (len(x), *(1,) * (x.ndim - 1))
  return jnp.broadcast_to(jnp.arange(len(x)).reshape(shape), x.shape)


def test_what_cannot_be_served_is_refused(tiny):
  with pytest.raises(RequestError, match="set prompt_rows=0"):
    parallel.Alone(generation.Sifted(_LAW))
  layout = parallel.Alone(_SPECS["law"])
  drafter = speculation.PromptLookup()
  with pytest.raises(RequestError, match="drafter: got one, expected none"):
    engine_lib.Engine(tiny, _SETTINGS, layout=layout, drafter=drafter)


@pytest.mark.parametrize(
  ("attend", "groups"),
  [
    (cached.Dense("triton"), 2),
    pytest.param(
      dataclasses.replace(_SPECS["law"], implementation="triton"),
      1,  # its pieces of prompts go as suits this machine
      marks=pytest.mark.slow,
    ),
  ],
  ids=["dense", "law"],
)
def test_a_step_of_kernels_compiles_for_a_gpu(attend, groups):
  """Without one: rows, and beside them a piece of a prompt."""
  config = dataclasses.replace(
    tiny_lib.CONFIG, head_dim=64, dtype="bfloat16", context_length=256
  )
  engine = engine_lib.Engine(
    model_lib.initialise(config, seed=0),
    engine_lib.Settings(num_pages=8, rows=(4,), pieces=(32,)),
    layout=parallel.Alone(attend),
  )
  step, arguments = engine.runner.program(batch.Shape(4, 1))
  lowered = step.trace(*arguments).lower(lowering_platforms=("cuda",))
  kernels = lowered.as_text().count("@__gpu$xla.gpu.triton")
  assert kernels == 2 * groups * config.num_layers
  program = programs.assert_compiles(step, *arguments)
  carried = jax.tree.leaves(engine.runner._carried)
  assert program.alias_bytes == sum(x.nbytes for x in carried)
