"""The engine's answers: the same whoever else is served, and however."""

import dataclasses
import gzip
import json

import jax
import numpy as np
import pytest

from research.inference import engine as engine_lib
from research.inference import generation, protocol, sampling
from research.inference.request import Finish, Request, RequestError
from research.telemetry import trace
from tests.inference import invariants

_HOT = sampling.Sampling(temperature=1.0, seed=7)


def _tokens(completions) -> list[list[int]]:
  return [list(completion.tokens) for completion in completions]


def _answer(engine, number: int) -> list[int]:
  """Steps until a request is over."""
  while True:
    for event in engine.step():
      if event.number == number and event.completion is not None:
        return list(event.completion.tokens)


def _requests(prompts, **options) -> list[Request]:
  return [Request(prompt, max_tokens=12, **options) for prompt in prompts]


@pytest.fixture(scope="module")
def expected(alone, prompts) -> list[list[int]]:
  return [alone(prompt) for prompt in prompts]


def test_the_tiny_model_is_a_hard_case(alone, prompts, expected):
  """One token less or other in the prompt, and the answer is another."""
  assert len({tuple(tokens) for tokens in expected}) == len(prompts)
  assert np.mean([len(set(tokens)) for tokens in expected]) > 6
  assert alone(prompts[-2][1:]) != expected[-2]


def test_an_engine_satisfies_the_protocol(engine):
  assert isinstance(engine, protocol.TokenEngine)


def test_greedy_tokens_are_the_generators(engine, prompts, expected):
  for prompt, tokens in zip(prompts, expected, strict=True):
    assert _tokens(engine.generate(_requests([prompt]))) == [tokens]


def test_a_prompt_of_token_zero_is_read(engine, alone, prompts):
  engine.generate(_requests(prompts[3:4]))  # leaves its last token in the slot
  assert _tokens(engine.generate(_requests([[0]]))) == [alone([0])]


def test_offline_answers_leave_other_requests_their_events(
  engine, prompts, expected
):
  number = engine.add(_requests([prompts[2]])[0])
  assert _tokens(engine.generate(_requests([prompts[5]]))) == [expected[5]]
  events = []
  while engine.has_work:
    events += engine.step()
  assert [event.number for event in events] == [number] * 12
  assert [event.token for event in events] == expected[2]


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_greedy_tokens_are_the_same_among_strangers(
  make_engine, settings, prompts, expected, prefix_cache
):
  engine = make_engine(dataclasses.replace(settings, prefix_cache=prefix_cache))
  for _ in range(2):  # the second time from the cache
    found = engine.generate(_requests(prompts))
    assert _tokens(found) == expected
  assert bool(found[-1].cached_tokens) == prefix_cache


def test_whole_pages_of_a_shared_beginning_come_from_the_cache(engine, prompts):
  long, alike = prompts[-2], prompts[-1]  # 40 and 35 tokens, 33 of them alike
  (first,) = engine.generate(_requests([long]))
  (second,) = engine.generate(_requests([alike]))
  (again,) = engine.generate(_requests([long]))
  assert first.cached_tokens == 0
  assert second.cached_tokens == 32
  assert again.cached_tokens == 32  # the page of the last token is never taken
  cache = engine.scheduler.memory.cache
  assert (cache.queried, cache.hit) == (39 + 34 + 39, 64)


def test_an_answer_is_cached_for_the_next_turn(engine, prompts):
  (first,) = engine.generate(_requests([prompts[5]]))  # 17 + 12 tokens
  turn = [*prompts[5], *first.tokens, 9]
  (second,) = engine.generate(_requests([turn]))
  assert second.cached_tokens == 24


def test_greedy_tokens_are_the_same_when_preempted(make_engine, alone, prompts):
  engine = make_engine(pages=8)  # two rows of five pages do not fit
  found = engine.generate([Request(p, max_tokens=30) for p in prompts[:4]])
  assert _tokens(found) == [alone(p, max_tokens=30) for p in prompts[:4]]
  preemptions = [completion.preemptions for completion in found]
  assert preemptions[0] == 0
  assert sum(preemptions) == engine.scheduler.preemptions > 0


def test_long_prompts_are_read_in_pieces_beside_decoding(
  engine, prompts, expected
):
  number = engine.add(Request(prompts[0], max_tokens=40))
  for _ in range(3):
    engine.step()
  decoded = len(engine._live[number].drawn)
  long = engine.add(_requests([prompts[-2]])[0])
  pieces = []
  while engine._live[long].drawn == []:
    plan = engine._pending.plan
    pieces += [w.end - w.start for w in plan.pieces]
    engine.step()
  assert pieces == [16, 16, 8]
  assert len(engine._live[number].drawn) > decoded
  assert _answer(engine, long) == expected[-2]


def test_seeded_draws_are_the_generators(engine, alone, prompts):
  """Alone, and among rows that draw otherwise: the neighbours do not count."""
  choices = [
    _HOT,
    sampling.Sampling(),
    sampling.Sampling(temperature=0.8, top_k=40, seed=2),
    sampling.Sampling(temperature=1.2, top_p=0.9, seed=3),
    sampling.Sampling(temperature=1.5, min_p=0.1, seed=4),
    sampling.Sampling(temperature=1.0, logit_bias={5: 9.0, 7: -2.0}, seed=5),
  ]
  requests = [
    Request(prompt, sampling=choice, max_tokens=12)
    for prompt, choice in zip(prompts, choices, strict=False)
  ]
  together = _tokens(engine.generate(requests))
  for request, found in zip(requests, together, strict=True):
    assert found == alone(request.prompt, request.sampling)


def test_trap_15_each_request_has_its_own_temperature_seed_and_end(
  engine, prompts, expected
):
  """Temperature 0 is greedy, seeds differ, and rows end on their own."""
  eos = expected[3][4]
  ended = make_ended(expected[3], eos)
  requests = [
    Request(prompts[3], max_tokens=12),
    Request(prompts[3], max_tokens=12, stop_ids=(eos,)),
    Request(prompts[3], max_tokens=12, sampling=_HOT),
    Request(
      prompts[3],
      max_tokens=12,
      sampling=sampling.Sampling(temperature=1.0, seed=8),
    ),
    Request(prompts[3], max_tokens=3),
  ]
  found = engine.generate(requests)
  greedy, stopped, one, other, short = _tokens(found)
  assert greedy == expected[3]
  assert stopped == ended
  assert len({tuple(tokens) for tokens in (greedy, one, other)}) == 3
  assert short == expected[3][:3]
  reasons = [completion.finish for completion in found]
  assert reasons == [
    Finish.LENGTH,
    Finish.STOP,
    Finish.LENGTH,
    Finish.LENGTH,
    Finish.LENGTH,
  ]


def make_ended(tokens: list[int], end: int) -> list[int]:
  return tokens[: tokens.index(end) + 1]


def test_the_models_end_stops_unless_ignored(make_engine, prompts, expected):
  engine = make_engine(eos_ids=[expected[3][4]])
  stopped, on = engine.generate(
    [
      Request(prompts[3], max_tokens=12),
      Request(prompts[3], max_tokens=12, ignore_eos=True),
    ]
  )
  assert list(stopped.tokens) == make_ended(expected[3], expected[3][4])
  assert list(on.tokens) == expected[3]


def test_log_probabilities_are_the_models(engine, tiny, prompts):
  """Against one pass over all tokens; bias and temperature do not count."""
  choice = sampling.Sampling(temperature=1.3, logit_bias={3: 4.0}, seed=1)
  plain, wanted = engine.generate(
    _requests([prompts[2]])
    + _requests([prompts[2]], sampling=choice, logprobs=True)
  )
  assert plain.logprobs == ()
  row = np.array([[*prompts[2], *wanted.tokens]])

  @jax.jit
  def run(state, tokens):
    decoder = tiny.bind(state)
    return decoder.logits(decoder(tokens).hidden)[0]

  logits = run(tiny.state, row)
  start = len(prompts[2])
  logs = jax.nn.log_softmax(logits)[np.arange(start - 1, row.size - 1)]
  expected = np.asarray(logs)[np.arange(12), row[0, start:]]
  np.testing.assert_allclose(wanted.logprobs, expected, rtol=1e-4, atol=1e-4)


def test_trap_11_nothing_is_compiled_in_mixed_traffic(
  engine, prompts, compilations
):
  traced = engine.runner.num_compiled
  assert traced == len(engine.runner.shapes)
  hotter = dataclasses.replace(_HOT, top_k=3, logit_bias={1: 1.0})
  compilations.clear()
  for lengths in (prompts[:1], prompts[3:7], prompts):
    engine.generate(_requests(lengths))
    engine.generate(_requests(lengths, sampling=hotter, logprobs=True))
  assert not compilations
  assert engine.runner.num_compiled == traced


def test_live_arrays_stay_as_many_and_as_large(engine, prompts):
  sizes = []
  for _ in range(3):
    engine.generate(_requests(prompts))
    arrays = [x for x in jax.live_arrays() if not x.is_deleted()]
    sizes.append((len(arrays), sum(x.nbytes for x in arrays)))
  assert sizes[1] == sizes[2]


def test_the_next_step_is_dispatched_before_answers_are_fetched(
  engine, prompts, monkeypatch
):
  order = []
  dispatch, fetch = engine.runner.dispatch, engine_lib.runner.fetch
  monkeypatch.setattr(
    engine.runner,
    "dispatch",
    lambda batch: order.append("dispatch") or dispatch(batch),
  )
  monkeypatch.setattr(
    engine_lib.runner,
    "fetch",
    lambda answers: order.append("fetch") or fetch(answers),
  )
  engine.generate([Request(prompts[0], max_tokens=4)])
  assert order == ["dispatch", *["dispatch", "fetch"] * 3, "fetch"]


def test_parked_and_woken_requests_answer_the_same(engine, prompts, expected):
  number = engine.add(_requests([prompts[6]])[0])
  while len(engine._live[number].drawn) < 3:
    engine.step()
  pages = list(engine._live[number].pages)
  engine.park(number)
  for _ in range(3):
    assert engine.step() == []
  assert engine._live[number].pages == pages
  engine.inject(number, [])
  assert _answer(engine, number) == expected[6]


def test_injected_tokens_are_read_as_a_prompt_is(engine, alone, prompts):
  number = engine.add(_requests([prompts[2]])[0])
  while len(engine._live[number].drawn) < 3:
    engine.step()
  drawn = list(engine._live[number].drawn)
  engine.inject(number, prompts[4])
  found = _answer(engine, number)
  whole = [*prompts[2], *drawn, *prompts[4]]
  assert found == drawn + alone(whole, max_tokens=12 - len(drawn))


def test_timing_is_in_order(engine, prompts):
  for completion in engine.generate(_requests(prompts)):
    timing = completion.timing
    assert 0 <= timing.queue_s <= timing.ttft_s <= timing.e2e_s
    assert len(timing.itl_s) == 11
    assert min(timing.itl_s) >= 0
    assert timing.ttft_s + sum(timing.itl_s) <= timing.e2e_s


def test_steps_and_requests_are_in_a_trace(engine, prompts, tmp_path):
  """Every phase of a request, every part of a step, with its shape."""
  with trace.profile(tmp_path):
    found = engine.generate(_requests(prompts[:3]))
  with gzip.open(tmp_path / trace.SPANS_FILE, "rt") as file:
    events = json.load(file)["traceEvents"]
  lives = [event for event in events if event.get("cat") == "request"]
  assert [e["name"] for e in lives if e["ph"] == "b"] == 3 * [
    *("queue", "prefill", "decode")
  ]
  assert {event["id"] for event in lives} == {0, 1, 2}
  first = [event["ts"] / 1e6 for event in lives if event["id"] == 0]
  timing = found[0].timing
  assert first[-1] - first[0] == pytest.approx(timing.e2e_s, abs=1e-4)
  begun = [event for event in events if event["ph"] == "B"]
  parts = {"schedule", "narrow", "pack", "dispatch", "fetch", "collect"}
  assert {event["name"] for event in begun} == parts
  shapes = [e["args"] for e in begun if e["name"] == "dispatch"]
  assert len(shapes) == engine.steps
  assert {"rows": 4, "blocks": 0, "length": 1} in shapes
  assert {"rows": 4, "blocks": 2, "length": 1} in shapes


def test_smollm2_answers_as_the_generator_does(smollm2_start, smollm2_words):
  texts = ("The capital of France is", "def fibonacci(n):\n  if", "A")
  prompts = [smollm2_words.encode(text) for text in texts]
  shapes = {"rows": (4,), "pieces": (32,), "num_pages": 8, "page_size": 16}
  engine = engine_lib.Engine(smollm2_start, engine_lib.Settings(**shapes))
  engine.runner.shapes = engine.runner.shapes[1:]  # one program is enough
  generator = generation.Generator(smollm2_start)
  stream = generator.stream(
    prompts, [sampling.Sampling()] * len(prompts), max_tokens=6
  )
  expected = np.stack(list(stream), axis=1).tolist()
  found = engine.generate([Request(p, max_tokens=6) for p in prompts])
  assert _tokens(found) == expected
  invariants.check(engine)


@pytest.mark.parametrize(
  ("prompt", "options", "message"),
  [
    ([], {}, "empty prompt: got 0 tokens, expected at least 1"),
    ([1], {"max_tokens": 0}, "max_tokens: got 0, expected >= 1"),
    ([256], {}, "token out of range: got 256, expected 0 to 255"),
    (
      [1],
      {"sampling": sampling.Sampling(logit_bias={300: 1.0})},
      "token out of range: got 300, expected 0 to 255",
    ),
    (
      [1] * 90,
      {"max_tokens": 7},
      r"request over the limit: got 90 tokens and 7 more to come, expected at "
      r"most 96 together \(the model's context, or all pages of the pool\); "
      "shorten the prompt or lower max_tokens",
    ),
  ],
)
def test_requests_that_cannot_be_served_are_refused(
  engine, prompt, options, message
):
  with pytest.raises(RequestError, match=message):
    engine.generate(
      [
        Request([1], max_tokens=1),
        Request(prompt, **{"max_tokens": 1} | options),
      ]
    )
  assert not engine.has_work


def test_a_prompt_over_all_pages_is_refused(hash_engine):
  engine = hash_engine(num_pages=3)
  with pytest.raises(RequestError, match="expected at most 12 together"):
    engine.add(Request([1] * 10, max_tokens=3))
  (completion,) = engine.generate([Request([1] * 9, max_tokens=3)])
  assert len(completion.tokens) == 3


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rows": ()}, r"engine shapes: got rows \(\), pieces"),
    ({"drafts": (16, 4)}, r"drafts \(16, 4\), expected all ascending"),
    ({"rows": (4, 2)}, r"got rows \(4, 2\)"),
    ({"pieces": (40,)}, "pieces in multiples of 32"),
  ],
)
def test_shapes_that_cannot_be_are_refused(changes, message):
  with pytest.raises(RequestError, match=message):
    engine_lib.Settings(**changes)


def test_copies_of_a_request_read_their_prompt_once(engine, alone, prompts):
  """Its whole pages; all of them are added before any is read."""
  request = Request(prompts[-2], sampling=_HOT, max_tokens=12)  # 40 tokens
  copies = request.copies(4)
  found = engine.generate(copies)
  assert [one.cached_tokens for one in found] == [0, 32, 32, 32]
  for one, copy in zip(found, copies, strict=True):
    assert list(one.tokens) == alone(copy.prompt, copy.sampling)
  assert len({one.tokens for one in found}) == 4


def test_what_a_page_held_before_does_not_count(engine, prompts, expected):
  """Not even NaN: another request may have left it there."""
  runner = engine.runner
  carried = jax.tree.map(lambda x: x * np.nan, runner._carried.pool)
  runner._carried = runner._carried._replace(pool=carried)
  assert _tokens(engine.generate(_requests(prompts))) == expected
