"""Guesses change when tokens come, never which ones."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from research.inference import sampling, speculation
from research.inference.request import Request
from research.transformer.checkpoints import model as model_lib
from tests.inference import hash_device, invariants

_WARM = sampling.Sampling(temperature=1.0, top_p=0.95, seed=3)


@dataclasses.dataclass
class _Fixed:
  """Guesses the same tokens everywhere."""

  guesses: Sequence[int]

  def propose(self, prefixes, most):
    del most
    return [self.guesses for _ in prefixes]


@dataclasses.dataclass
class _Oracle:
  """Knows the answers, but some of their tokens wrongly."""

  answers: Sequence[Sequence[int]]
  wrong: Sequence[int] = ()

  def propose(self, prefixes, most):
    return [self._guess(list(prefix.tokens), most) for prefix in prefixes]

  def _guess(self, tokens: list[int], most: int) -> list[int]:
    for text in self.answers:
      if tokens == list(text[: len(tokens)]):
        places = range(len(tokens), min(len(tokens) + most, len(text)))
        return [(text[i] + (i in self.wrong)) % 256 for i in places]
    return []


def _requests(prompts, sampled: sampling.Sampling) -> list[Request]:
  return [
    Request(
      prompt,
      sampling=dataclasses.replace(sampled, seed=seed),
      max_tokens=12,
      logprobs=True,
    )
    for seed, prompt in enumerate(prompts)
  ]


@pytest.fixture(params=[sampling.Sampling(), _WARM], ids=["greedy", "warm"])
def requests(request, prompts) -> list[Request]:
  return _requests(prompts, request.param)


@pytest.fixture
def expected(make_engine, requests):
  return make_engine().generate(requests)


def _texts(requests, completions) -> list[list[int]]:
  return [
    [*request.prompt, *completion.tokens]
    for request, completion in zip(requests, completions, strict=True)
  ]


def _same(found, expected) -> None:
  """Tokens are equal; log-probabilities up to the rounding of a wider step."""
  for ours, theirs in zip(found, expected, strict=True):
    assert ours.tokens == theirs.tokens
    np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-3)


@pytest.mark.parametrize(
  "guesses", [(), (0,), (5, 6, 7), (7,) * 40, (-1, 3), (4, 999), (2**40,)]
)
def test_trap_04_wrong_guesses_change_nothing(
  make_engine, requests, expected, guesses
):
  engine = make_engine(drafter=_Fixed(guesses))
  _same(engine.generate(requests), expected)
  invariants.check(engine)


def test_right_guesses_save_steps(make_engine, requests, expected):
  slow = make_engine(drafter=_Fixed(()))
  slow.generate(requests)
  fast = make_engine(drafter=_Oracle(_texts(requests, expected)))
  _same(fast.generate(requests), expected)
  assert fast.drafted == fast.accepted > 0
  assert fast.steps < 0.5 * slow.steps


def test_guesses_are_taken_up_to_the_first_wrong_one(
  make_engine, requests, expected
):
  request, completion = requests[2], expected[2]
  texts = _texts([request], [completion])
  wrong = len(request.prompt) + 2  # the third token that is drawn
  engine = make_engine(drafter=_Oracle(texts, wrong=[wrong]))
  _same(engine.generate([request]), [completion])
  # From the second token on three guesses a step: of the first, one is right.
  assert (engine.drafted, engine.accepted) == (3 + 3 + 3, 1 + 3 + 3)


def test_a_guess_never_exceeds_what_was_asked_for(make_engine, prompts):
  (want,) = make_engine().generate([Request(prompts[0], max_tokens=3)])
  engine = make_engine(drafter=_Fixed(want.tokens[1:] * 4))
  (found,) = engine.generate([Request(prompts[0], max_tokens=3)])
  assert found.tokens == want.tokens
  assert engine.drafted == 1  # of two tokens that are left, the last is drawn


def test_a_guess_ends_where_the_context_does(make_engine, prompts):
  prompt = (prompts[-1] * 3)[:90]
  (want,) = make_engine().generate([Request(prompt, max_tokens=6)])
  texts = _texts([Request(prompt)], [want])
  engine = make_engine(drafter=_Oracle(texts))
  (found,) = engine.generate([Request(prompt, max_tokens=6)])
  assert found.tokens == want.tokens
  assert engine.scheduler.limit == 96


class _Knowing:
  """Guesses what the device of hashes will draw."""

  def propose(self, prefixes, most):
    return [hash_device.answer(prefix.tokens, most) for prefix in prefixes]


class _Climbing:
  """Guesses what it will draw behind two tokens of a prompt, climbing."""

  def propose(self, prefixes, most):
    climb = hash_device.Climber.allowed
    said = [
      hash_device.answer(p.tokens[:2], len(p.tokens) - 2 + most, allowed=climb)
      for p in prefixes
    ]
    return [
      one[len(p.tokens) - 2 :] for p, one in zip(prefixes, said, strict=True)
    ]


def test_pages_of_guesses_that_a_guide_refuses_go_back(hash_engine):
  """Two tokens and three guesses would be a second page."""

  class Once:
    def __init__(self):
      self.guesses = [0, 0, 0]

    def propose(self, prefixes, most):
      found, self.guesses = self.guesses[:most], []
      return [found for _ in prefixes]

  class Ones(hash_device.Climber):
    @staticmethod
    def allowed(drawn) -> int:
      return 0b10

  engine = hash_engine(drafter=Once())
  number = engine.add(Request([1], max_tokens=6, guides=(Ones,)))
  sequence, held = engine._live[number], []
  while engine.has_work:
    engine.step()
    invariants.check(engine)
    held.append(len(sequence.pages))
  assert held[:3] == [1, 2, 1]
  assert sequence.drawn == [1] * 6


def test_guesses_are_cut_when_more_rows_join(hash_engine):
  """Three rows have room for one guess each, one alone for three."""
  engine = hash_engine(drafter=_Climbing())
  first = Request([1, 2], max_tokens=9, guides=(hash_device.Climber,))
  numbers = [engine.add(first)]
  while not engine._live[0].drawn:
    engine.step()
  late = [Request([token], max_tokens=3) for token in (5, 6)]
  numbers += [engine.add(request) for request in late]
  done = {}
  while engine.has_work:
    for event in engine.step():
      if event.completion is not None:
        done[event.number] = event.completion
    invariants.check(engine)
  allowed = {"allowed": hash_device.Climber.allowed}
  wanted = [hash_device.answer([1, 2], 9, **allowed)]
  wanted += [hash_device.answer(request.prompt, 3) for request in late]
  assert [list(done[number].tokens) for number in numbers] == wanted
  assert engine.accepted > 3


def test_a_sequence_waits_for_its_guesses(hash_engine):
  """How many tokens it has then depends on them."""
  engine = hash_engine(drafter=_Knowing())
  engine.add(Request([1], max_tokens=9))
  while not engine.drafted:
    engine.step()
  assert engine._pending.plan.decodes[0].drafts
  assert not engine.scheduler.schedule()


def test_guesses_end_where_the_context_does_after_tokens_from_outside(
  hash_engine,
):
  """Then the context is full before the request has all that it asked for."""
  engine = hash_engine(num_pages=40, drafter=_Knowing())
  number = engine.add(Request([1] * 80, max_tokens=12))
  sequence = engine._live[number]
  while not sequence.drawn:
    engine.step()
  engine.inject(number, [2] * 9)
  events = []
  while engine.has_work:
    events += engine.step()
    invariants.check(engine)
  completion = events[-1].completion
  assert completion.error is None
  assert completion.prompt_tokens + len(completion.tokens) == 96
  assert len(completion.tokens) < 12


def test_an_answer_ends_inside_a_right_guess(make_engine, prompts, alone):
  tokens = alone(prompts[3])
  stop = next(t for i, t in enumerate(tokens) if i > 1 and t not in tokens[:i])
  request = Request(prompts[3], max_tokens=12, stop_ids=(stop,))
  engine = make_engine(drafter=_Oracle([[*prompts[3], *tokens]]))
  (found,) = engine.generate([request])
  assert list(found.tokens) == tokens[: tokens.index(stop) + 1]
  invariants.check(engine)


def test_a_drafter_that_fails_is_done_without(make_engine, requests, expected):
  class Broken:
    def propose(self, prefixes, most):
      raise RuntimeError("planted")

  _same(make_engine(drafter=Broken()).generate(requests), expected)


def test_guesses_take_no_page_from_anybody(hash_engine):
  """Five pages hold two answers, but not their guesses too."""
  plain, prompts = hash_engine(num_pages=6), [[1] * 6, [2] * 6]
  requests = [Request(prompt, max_tokens=6) for prompt in prompts]
  want = plain.generate(requests)
  engine = hash_engine(num_pages=6, drafter=hash_device.Guesser(seed=0))
  found = engine.generate(requests)
  assert [one.tokens for one in found] == [one.tokens for one in want]
  assert engine.scheduler.preemptions == plain.scheduler.preemptions


def test_a_draft_model_of_the_same_weights_is_always_right(
  make_engine, engine, requests, expected
):
  """Also where tokens are drawn: both draw with the same random numbers."""
  drafter = speculation.DraftModel(engine, context=96)
  fast = make_engine(drafter=drafter)
  _same(fast.generate(requests), expected)
  assert fast.accepted == fast.drafted > 60


@pytest.mark.slow
def test_a_draft_model_of_other_weights_changes_nothing(
  make_engine, tiny, settings, requests, expected
):
  other = model_lib.initialise(
    dataclasses.replace(tiny.config, num_layers=1), seed=9
  )
  small = type(make_engine())(other, settings)
  fast = make_engine(drafter=speculation.DraftModel(small, context=96))
  _same(fast.generate(requests), expected)
  assert fast.accepted < fast.drafted


def test_trap_04_draws_with_guesses_follow_the_models_chances(make_engine):
  """Pairs of tokens of 600 requests, whose guesses are always the same."""
  prompt, some = [3, 1, 4, 1, 5], (10, 20, 30)
  bias = dict.fromkeys(some, 1000.0)
  drawn = [
    sampling.Sampling(temperature=25.0, logit_bias=bias, seed=seed)
    for seed in range(600)
  ]
  engine = make_engine(drafter=_Fixed((20, 20, 20)))
  found = engine.generate(
    [Request(prompt, sampling=one, max_tokens=3) for one in drawn]
  )
  assert 0 < engine.accepted < engine.drafted
  counts = np.zeros((3, 3))
  for one in found:
    counts[some.index(one.tokens[0]), some.index(one.tokens[1])] += 1
  chances = np.zeros((3, 3))
  first = _chances(make_engine, prompt, some)
  for i, token in enumerate(some):
    second = _chances(make_engine, [*prompt, token], some)
    chances[i] = first[i] * second
  assert scipy.stats.chisquare(counts.ravel(), 600 * chances.ravel())[1] > 1e-3
  assert chances.max() < 0.5


def _chances(make_engine, prompt, some) -> np.ndarray:
  """What the model says of some tokens, from logprobs of forced draws."""
  forced = [
    Request(
      prompt,
      sampling=sampling.Sampling(logit_bias={token: 1e6}),
      max_tokens=1,
      logprobs=True,
    )
    for token in some
  ]
  found = make_engine().generate(forced)
  assert [one.tokens[0] for one in found] == list(some)
  scaled = np.array([one.logprobs[0] for one in found]) / 25.0
  return np.exp(scaled) / np.exp(scaled).sum()


@pytest.mark.parametrize(
  ("tokens", "most", "guesses"),
  [
    ([1, 2, 3, 1, 2], 3, [3, 1, 2]),
    ([1, 2, 3, 1, 2], 1, [3]),
    ([1, 2, 9, 1, 2, 8, 1, 2], 1, [8]),  # the latest
    ([1, 2, 7, 7, 7, 1, 2, 8, 1, 2], 4, [7, 7, 7, 1]),  # with enough after it
    ([5, 1, 2, 6, 7, 1, 2, 8, 5, 1, 2], 1, [6]),  # the longest match
    ([1, 2, 3, 4], 3, []),
    ([1], 3, []),
    ([1, 1, 1], 2, [1]),
  ],
)
def test_prompt_look_up_guesses_what_followed(tokens, most, guesses):
  prefix = speculation.Prefix(0, tokens, sampling.Sampling())
  assert speculation.PromptLookup().propose([prefix], most) == [guesses]


def test_drafters_satisfy_the_protocol(engine):
  for one in (
    speculation.PromptLookup(),
    speculation.DraftModel(engine, context=96),
  ):
    assert isinstance(one, speculation.Drafter)
