"""Random schedules: no page is lost, and no answer depends on the others."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from research.inference.request import (
  Completion,
  Finish,
  Request,
  RequestError,
  State,
)
from tests.inference import hash_device, invariants


class _Traffic:
  """Does anything that a user may do to an engine, at random.

  Attributes:
    ended: completions seen.
    seen: what happened at all, to show that nothing was missed.
  """

  def __init__(self, engine, seed: int):
    self._engine, self._rng = engine, np.random.default_rng(seed)
    self._bases = self._rng.integers(0, hash_device.VOCAB, (3, 16)).tolist()
    self._injected: dict[int, dict[int, list[int]]] = {}
    self._requests: dict[int, Request] = {}
    self._drawn: dict[int, list[int]] = {}
    self.ended = 0
    self.seen: set[str] = set()

  def step(self) -> None:
    engine, rng = self._engine, self._rng
    if len(self._requests) < 7 and rng.random() < 0.5:
      self._add()
    number = int(rng.choice([*engine._live, -1]))
    for name in ("inject", "park", "abort", "wake"):
      if number in engine._live and rng.random() < 0.07:
        self._disturb(name, number)
        invariants.check(engine)
    if rng.random() < 0.01:
      engine.runner.fail_next = True
    before = engine.scheduler.preemptions
    held = engine.scheduler.memory.cache.held
    engine.runner.written.clear()
    self._take(engine.step())
    if engine.scheduler.preemptions > before:
      self.seen.add("preempted")
    shared = held & engine.scheduler.memory.cache.held
    assert not engine.runner.written & shared, "a shared page was written"
    invariants.check(engine)

  def drain(self) -> None:
    for _ in range(2000):
      for number in [s.number for s in self._engine.scheduler.parked]:
        self._engine.inject(number, [])
      if not self._engine.has_work:
        break
      self._take(self._engine.step())
      invariants.check(self._engine)
    assert not self._requests, "a request was lost"
    memory = self._engine.scheduler.memory
    memory.cache.clear()
    assert memory.allocator.num_free == memory.num_pages

  def _add(self) -> None:
    rng = self._rng
    base = self._bases[rng.integers(3)][: rng.integers(0, 14)]
    own = rng.integers(0, hash_device.VOCAB, rng.integers(1, 6)).tolist()
    stops = (3,) if rng.random() < 0.3 else ()
    request = Request(
      base + own,
      max_tokens=int(rng.integers(1, 12)),
      stop_ids=stops,
      guides=(hash_device.Climber,) if rng.random() < 0.2 else (),
    )
    number = self._engine.add(request)
    self._requests[number], self._injected[number] = request, {}
    self._drawn[number] = []

  def _disturb(self, name: str, number: int) -> None:
    sequence = self._engine._live[number]
    state = sequence.state
    if name == "abort":
      self._engine.abort(number)
    elif name == "park" and state in (State.RUNNING, State.INJECTED):
      self._engine.park(number)
    elif name == "wake" and state is State.PARKED:
      self._engine.inject(number, [])
    elif name == "inject" and not self._injected[number]:
      count = self._rng.integers(1, 13)
      tokens = self._rng.integers(0, hash_device.VOCAB, count).tolist()
      try:
        self._engine.inject(number, tokens)
      except RequestError:
        return
      # Behind the last token that was known.
      self._injected[number][len(sequence.drawn)] = tokens
    else:
      return
    self.seen.add(f"{name} {state.value}")

  def _take(self, events) -> None:
    for number, token, completion in events:
      if token is not None:
        self._drawn[number].append(token)
      if completion is not None:
        self._judge(number, completion)

  def _judge(self, number: int, completion) -> None:
    request = self._requests.pop(number)
    guide = {"allowed": hash_device.Climber.allowed} if request.guides else {}
    expected = hash_device.answer(
      request.prompt,
      request.max_tokens,
      self._injected.pop(number),
      frozenset(request.stop_ids),
      exact=self._engine.runner.exact,
      **guide,
    )
    found = list(completion.tokens)
    assert found == self._drawn.pop(number), "events and answer differ"
    assert found == expected[: len(found)]
    self.ended += 1
    self.seen.add(completion.finish.value)
    if completion.cached_tokens:
      self.seen.add("cached")
    if completion.finish in (Finish.STOP, Finish.LENGTH):
      limit = self._engine.scheduler.limit
      full = completion.prompt_tokens + len(found) == limit
      assert full or len(found) == len(expected)


def _answer(engine, number: int) -> Completion:
  """Steps until a request is over."""
  while True:
    for event in engine.step():
      if event.number == number and event.completion is not None:
        return event.completion


_ALL = {
  *(f"abort {state}" for state in ("waiting", "running", "parked", "injected")),
  *(f"inject {state}" for state in ("waiting", "running", "parked")),
  "park running",
  "park injected",
  "wake parked",
  "preempted",
  "cached",
  "stop",
  "length",
  "abort",
  "error",
}


@pytest.mark.parametrize(
  ("prefix_cache", "drafts", "exact"),
  [
    (True, False, True),
    (False, False, True),
    (True, True, True),
    (True, False, False),
  ],
)
def test_a_long_random_schedule_meets_everything(
  hash_engine, prefix_cache, drafts, exact
):
  drafter = hash_device.Guesser(seed=0) if drafts else None
  engine = hash_engine(prefix_cache=prefix_cache, drafter=drafter, exact=exact)
  traffic = _Traffic(engine, seed=0)
  met = _ALL - (set() if prefix_cache else {"cached"})
  for step in range(4000):
    if step > 1500 and traffic.seen >= met:
      break
    traffic.step()
  traffic.drain()
  assert traffic.seen >= met
  assert ("cached" in traffic.seen) == prefix_cache
  assert traffic.ended > 200
  if drafter is not None:
    assert drafter.guessed > engine.drafted > engine.accepted > 500


@hypothesis_settings(max_examples=15, deadline=None)
@given(
  seed=st.integers(0, 2**32 - 1),
  num_pages=st.integers(8, 40),
  kind=st.sampled_from(["plain", "drafts", "inexact"]),
)
@example(seed=79993, num_pages=8, kind="drafts")  # a guide refuses all guesses
def test_any_short_schedule_keeps_pages_and_answers(seed, num_pages, kind):
  drafter = hash_device.Guesser(seed) if kind == "drafts" else None
  engine = _MAKE[0](
    num_pages=num_pages, drafter=drafter, exact=kind != "inexact"
  )
  traffic = _Traffic(engine, seed)
  for _ in range(60):
    traffic.step()
  traffic.drain()


_MAKE: list = []  # hypothesis calls a test often, fixtures once


@pytest.fixture(autouse=True)
def _keep_maker(hash_engine):
  _MAKE[:] = [hash_engine]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "drafts", "inexact"])
def test_ten_thousand_random_steps(hash_engine, kind):
  drafter = hash_device.Guesser(seed=1) if kind == "drafts" else None
  engine = hash_engine(drafter=drafter, exact=kind != "inexact")
  traffic = _Traffic(engine, seed=1)
  for _ in range(10_000):
    traffic.step()
  traffic.drain()
  assert traffic.seen >= _ALL


def test_a_schedule_is_decided_by_its_requests(hash_engine):
  plans = []
  for _ in range(2):
    engine = hash_engine()
    traffic = _Traffic(engine, seed=5)
    plan = []
    schedule = engine.scheduler.schedule

    def recorded(schedule=schedule, plan=plan):
      found = schedule()
      plan.append([(w.sequence.number, w.start, w.end, w.draws) for w in found])
      return found

    engine.scheduler.schedule = recorded
    for _ in range(200):
      traffic.step()
    plans.append(plan)
  assert plans[0] == plans[1]


def test_running_out_of_pages_takes_those_of_the_youngest(hash_engine):
  engine = hash_engine(num_pages=6)
  requests = [Request([i] * 7, max_tokens=12) for i in range(3)]
  found = engine.generate(requests)
  for request, completion in zip(requests, found, strict=True):
    assert list(completion.tokens) == hash_device.answer(request.prompt, 12)
  assert engine.scheduler.preemptions
  assert found[0].preemptions == 0
  assert found[2].preemptions > 0
  ends = [completion.timing.finished for completion in found]
  assert ends == sorted(ends)


def test_a_narrowed_sequence_waits_for_its_token(hash_engine):
  """Which tokens may come next depends on it."""
  for guides, ahead in (((), True), ((hash_device.Climber,), False)):
    engine = hash_engine()
    engine.add(Request([1, 2], max_tokens=5, guides=guides))
    assert engine.scheduler.schedule()
    assert bool(engine.scheduler.schedule()) == ahead


def test_what_was_read_of_a_prompt_is_shared_before_its_end(hash_engine):
  engine = hash_engine()
  prompt = list(range(16)) * 2
  number = engine.add(Request(prompt, max_tokens=2))
  for _ in range(3):  # two pieces of eight are done, one is in flight
    engine.step()
  engine.abort(number)
  (completion,) = engine.generate([Request(prompt, max_tokens=2)])
  assert completion.cached_tokens == 16
  assert list(completion.tokens) == hash_device.answer(prompt, 2)


def test_admission_leaves_a_page_to_each_that_runs(hash_engine):
  engine = hash_engine(num_pages=5)
  engine.add(Request([1] * 7, max_tokens=9))
  engine.step()
  engine.add(Request([2] * 10, max_tokens=3))  # three pages, as many are free
  engine.step()
  assert [s.number for s in engine.scheduler.waiting] == [1]
  while engine.has_work:
    engine.step()
  assert not engine.scheduler.preemptions


@pytest.mark.parametrize(("prompt", "more"), [(12, 12), (16, 4)])
def test_parked_pages_yield_when_nothing_else_can_run(
  hash_engine, prompt, more
):
  """To one that grows, and to one that cannot even begin."""
  engine = hash_engine(num_pages=6)
  number = engine.add(Request([1] * 9, max_tokens=8))
  for _ in range(4):
    engine.step()
  engine.park(number)
  invariants.check(engine)
  other = Request([2] * prompt, max_tokens=more)
  (completion,) = engine.generate([other])
  assert list(completion.tokens) == hash_device.answer(other.prompt, more)
  engine.inject(number, [5, 6])
  assert _answer(engine, number).preemptions == 1


def test_trap_02_injected_tokens_are_not_counted_as_generated(hash_engine):
  engine = hash_engine()
  number = engine.add(Request([1, 2, 3], max_tokens=6))
  seen = 0
  while seen < 2:
    seen += sum(event.token is not None for event in engine.step())
  engine.inject(number, [4, 5, 6, 7])
  completion = _answer(engine, number)
  assert len(completion.tokens) == 6
  assert completion.prompt_tokens == 7
  expected = hash_device.answer([1, 2, 3], 6, {seen: [4, 5, 6, 7]})
  assert list(completion.tokens) == expected


def test_trap_03_injection_is_no_hidden_prefill(hash_engine):
  """Same slot, same pages, no look-up, and only new positions are computed."""
  engine = hash_engine()
  number = engine.add(Request([1, 2, 3, 4, 5], max_tokens=6))
  for _ in range(4):
    engine.step()
  sequence = engine._live[number]
  before = sequence.slot, list(sequence.pages), engine.scheduler.memory.cache
  queried, known = before[2].queried, len(sequence.tokens)
  engine.inject(number, [6, 7, 8])
  assert sequence.state is State.INJECTED
  plan = engine.scheduler.schedule()
  (work,) = plan
  assert (work.start, work.end) == (known, known + 3)
  assert sequence.slot == before[0]
  assert sequence.pages[: len(before[1])] == before[1]
  assert before[2].queried == queried
  assert sequence.state is State.RUNNING


def test_drawn_tokens_are_no_prompt_where_attention_is_inexact(hash_engine):
  """A sequence that begins again takes no page of a prompt for its own."""
  engine = hash_engine(num_pages=40, exact=False)
  prompt = [1, 2, 3, 4, 5, 6]
  drawn = hash_device.answer(prompt, 11, exact=False)
  number = engine.add(Request(prompt, max_tokens=11))
  while len(engine._live[number].drawn) < 9:
    engine.step()
  other = engine.add(Request(prompt + drawn[:9], max_tokens=1))
  engine.step()  # waits for nothing: what was drawn is not to be had
  assert engine._live[other].state is State.RUNNING
  while other in engine._live:
    engine.step()
  engine = hash_engine(num_pages=40, exact=False)
  engine.generate([Request(prompt + drawn[:9], max_tokens=1)])
  number = engine.add(Request(prompt, max_tokens=11))
  while len(engine._live[number].drawn) < 9:
    engine.step()
  engine.park(number)
  engine.inject(number, [])
  assert list(_answer(engine, number).tokens) == drawn


def test_a_parked_sequence_learns_again_what_its_slot_has_forgotten(
  hash_engine,
):
  """It was parked while drawn along known tokens: no draw was in flight."""
  engine = hash_engine(num_pages=40, exact=False)
  prompt, injected = [1, 2, 3, 4, 5, 6], [9] * 9
  number = engine.add(Request(prompt, max_tokens=11))
  sequence = engine._live[number]
  while len(sequence.drawn) < 6:
    engine.step()
  seen = len(sequence.drawn)
  engine.inject(number, injected)
  while sequence.in_flight or sequence.scheduled < len(prompt) + 3:
    engine.step()
  pages, slot = len(sequence.pages), sequence.slot
  engine.park(number)
  assert len(sequence.pages) == pages
  other = engine.add(Request([7] * 5, max_tokens=11))
  while len(engine._live[other].drawn) < 4:
    engine.step()
  assert engine._live[other].slot == slot
  engine.abort(other)
  engine.inject(number, [])
  expected = hash_device.answer(prompt, 11, {seen: injected}, exact=False)
  assert list(_answer(engine, number).tokens) == expected
