"""Streams in an event loop."""

import asyncio
import time

import pytest

from research.inference import async_engine, protocol
from research.inference.request import Finish, Request, RequestError
from tests.inference import hash_device, invariants


@pytest.fixture
def engine(hash_engine):
  return hash_engine()


async def _read(streams, request: Request) -> list:
  return [event async for event in streams.stream(request)]


def test_it_satisfies_the_protocol(engine):
  streams = async_engine.AsyncEngine(engine)
  assert isinstance(streams, protocol.TokenStreams)


def test_every_caller_gets_its_own_tokens_in_order(engine):
  requests = [Request([i] * (i + 2), max_tokens=5 + i) for i in range(5)]

  async def main():
    streams = async_engine.AsyncEngine(engine)
    return await asyncio.gather(*(_read(streams, r) for r in requests))

  for request, events in zip(requests, asyncio.run(main()), strict=True):
    expected = hash_device.answer(request.prompt, request.max_tokens)
    assert [event.token for event in events] == expected
    assert [e.completion for e in events[:-1]] == [None] * (len(events) - 1)
    assert list(events[-1].completion.tokens) == expected
  invariants.check(engine)
  assert not engine.has_work


def test_tokens_come_while_the_answer_is_made(engine):
  """The first token is there long before the last is computed."""

  async def main():
    streams = async_engine.AsyncEngine(engine)
    steps = []
    async for _ in streams.stream(Request([1, 2], max_tokens=20)):
      steps.append(engine.steps)
    return steps

  steps = asyncio.run(main())
  assert steps[0] <= 4
  assert steps == sorted(steps)
  assert steps[-1] >= 20


def test_a_caller_who_leaves_aborts_only_its_own(engine):
  other = Request([3, 4], max_tokens=15)

  async def main():
    streams = async_engine.AsyncEngine(engine)
    rest = asyncio.create_task(_read(streams, other))
    stream = streams.stream(Request([1, 2], max_tokens=40))
    numbers = [(await anext(stream)).number for _ in range(2)]
    await stream.aclose()
    assert numbers[0] not in engine._live
    return await rest

  events = asyncio.run(main())
  expected = hash_device.answer(other.prompt, 15)
  assert list(events[-1].completion.tokens) == expected
  assert not engine.has_work
  invariants.check(engine)


def test_a_cancelled_task_aborts(engine):
  async def main():
    streams = async_engine.AsyncEngine(engine)
    task = asyncio.create_task(_read(streams, Request([1], max_tokens=40)))
    while engine.steps < 3:
      await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
      await task

  asyncio.run(main())
  assert not engine._live


def test_parking_and_injecting_while_streaming(engine):
  async def main():
    streams = async_engine.AsyncEngine(engine)
    stream = streams.stream(Request([1, 2, 3], max_tokens=8))
    drawn, known = [], 0
    async for event in stream:
      drawn.append(event.token)
      if len(drawn) == 1:
        await streams.park(event.number)
        known = len(engine._live[event.number].drawn)
        await asyncio.sleep(0)
        await streams.inject(event.number, [9, 9])
    return drawn, known

  drawn, known = asyncio.run(main())
  assert drawn == hash_device.answer([1, 2, 3], 8, {known: [9, 9]})


def test_refused_requests_raise_where_they_are_made(engine):
  async def main():
    streams = async_engine.AsyncEngine(engine)
    with pytest.raises(RequestError, match="request over the limit"):
      await _read(streams, Request([1] * 60))
    return await _read(streams, Request([1], max_tokens=1))

  assert asyncio.run(main())[-1].completion.finish is Finish.LENGTH


def test_an_error_in_the_engine_itself_reaches_every_caller(engine):
  def fail():
    raise RuntimeError("planted")

  engine.step = fail

  async def main():
    streams = async_engine.AsyncEngine(engine)
    return await asyncio.gather(
      *(_read(streams, Request([i], max_tokens=3)) for i in range(2)),
      return_exceptions=True,
    )

  assert [str(error) for error in asyncio.run(main())] == ["planted"] * 2


def test_the_event_loop_is_free_while_a_step_runs(engine):
  step = engine.step

  def slow():
    time.sleep(0.05)
    return step()

  engine.step = slow

  async def main():
    streams = async_engine.AsyncEngine(engine)
    task = asyncio.create_task(_read(streams, Request([1], max_tokens=3)))
    turns = 0
    while not task.done():
      await asyncio.sleep(0.001)
      turns += 1
    return turns, engine.steps

  turns, steps = asyncio.run(main())
  assert turns > 2 * steps
