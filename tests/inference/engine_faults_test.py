"""What goes wrong ends what it concerns, and nothing else."""

import pytest

from research.inference import runner
from research.inference.request import (
  Completion,
  Finish,
  Request,
  RequestError,
  State,
)
from tests.inference import hash_device, invariants


def _drain(engine) -> dict[int, Completion]:
  done: dict[int, Completion] = {}
  while engine.has_work:
    for event in engine.step():
      if event.completion is not None:
        done[event.number] = event.completion
    invariants.check(engine)
  return done


def _bring(engine, number: int, state: State) -> None:
  """Steps until the request is in a state, which is then the newest."""
  sequence = engine._live[number]
  if state is State.WAITING:
    return
  while not sequence.drawn:
    engine.step()
  if state is State.PARKED:
    engine.park(number)
  elif state is State.INJECTED:
    engine.inject(number, [1] * 9)


@pytest.mark.parametrize(
  "state", [State.WAITING, State.RUNNING, State.PARKED, State.INJECTED]
)
def test_a_request_may_be_aborted_in_every_state(hash_engine, state):
  engine = hash_engine()
  other = engine.add(Request([5] * 6, max_tokens=9))
  number = engine.add(Request([1, 2, 3], max_tokens=9))
  _bring(engine, number, state)
  assert engine._live[number].state is state
  drawn = list(engine._live[number].drawn)
  engine.abort(number)
  invariants.check(engine)
  engine.abort(number)  # a second time is nothing
  done = _drain(engine)
  assert done[number].finish is Finish.ABORT
  assert list(done[number].tokens) == drawn
  assert list(done[other].tokens) == hash_device.answer([5] * 6, 9)


def test_an_aborted_request_waits_for_nothing(hash_engine):
  engine = hash_engine()
  engine.abort(engine.add(Request([1], max_tokens=1)))
  (event,) = engine.step()
  assert event.token is None
  assert event.completion.timing.queue_s is None
  assert event.completion.timing.ttft_s is None
  assert not engine.has_work


@pytest.mark.parametrize("when", ["dispatch", "fetch"])
def test_a_failing_step_ends_its_own_requests_only(
  hash_engine, monkeypatch, when
):
  engine = hash_engine()
  first = [engine.add(Request([i] * 6, max_tokens=9)) for i in range(3)]
  for _ in range(3):
    engine.step()
  late = engine.add(Request([8] * 6, max_tokens=4))  # no slot is free for it
  engine.park(first[2])
  parked = engine._live[first[2]]
  assert parked.pages
  engine.scheduler.waiting.clear()  # so that it is in no step yet
  if when == "dispatch":
    engine.runner.fail_next = True
  else:
    monkeypatch.setattr(
      "research.inference.runner.fetch", _fail_once(monkeypatch)
    )
  events = engine.step()
  engine.scheduler.waiting.append(engine._live[late])
  ended = {e.number: e.completion for e in events if e.completion}
  assert set(ended) == set(first[:2])
  known = 3 if when == "dispatch" else 2  # the step before it did not fail
  expected = hash_device.answer([0] * 6, 9)
  assert list(ended[first[0]].tokens) == expected[:known]
  for completion in ended.values():
    assert completion.finish is Finish.ERROR
    assert completion.error == "a step failed: RuntimeError: planted"
  invariants.check(engine)
  assert parked.state is State.PARKED
  assert not parked.pages  # what it held is gone with the pool
  engine.inject(first[2], [])
  done = _drain(engine)
  assert list(done[late].tokens) == hash_device.answer([8] * 6, 4)
  assert list(done[first[2]].tokens) == hash_device.answer([2] * 6, 9)


def _fail_once(monkeypatch):
  fetch = runner.fetch

  def fail(answers):
    monkeypatch.setattr("research.inference.runner.fetch", fetch)
    raise RuntimeError("planted")

  return fail


def test_the_pool_is_made_anew_after_a_failure(engine, alone, prompts):
  """A failed step may have eaten the pool that was donated to it."""
  number = engine.add(Request(prompts[4], max_tokens=12))
  for _ in range(3):
    engine.step()
  for array in engine.runner._carried.pool[0]:
    array.delete()
  events = [event for _ in range(2) for event in engine.step()]
  assert events[-1].number == number
  assert events[-1].completion.finish is Finish.ERROR
  (after,) = engine.generate([Request(prompts[4], max_tokens=12)])
  assert list(after.tokens) == alone(prompts[4])
  assert after.cached_tokens == 0


def test_calls_in_the_wrong_state_are_refused(hash_engine):
  engine = hash_engine()
  number = engine.add(Request([1, 2], max_tokens=4))
  with pytest.raises(
    RequestError,
    match=f"request {number} cannot be parked: got state waiting, expected "
    "running",
  ):
    engine.park(number)
  engine.step()
  with pytest.raises(RequestError, match="got 2 tokens and 47 more"):
    engine.scheduler.check(2, 47)
  with pytest.raises(RequestError, match="request over the limit: got 50"):
    engine.inject(number, [1] * 48)
  with pytest.raises(RequestError, match="token out of range: got 999"):
    engine.inject(number, [999])
  _drain(engine)
  with pytest.raises(RequestError, match="got a number of no live request"):
    engine.inject(number, [1])
