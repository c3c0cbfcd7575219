"""The engine in an event loop: every request is a stream of its own."""

import asyncio
from collections.abc import AsyncGenerator

from research.inference import engine as engine_lib
from research.inference.protocol import Event
from research.inference.request import Request


class AsyncEngine:
  """Streams the answers of many callers from one engine; a `TokenStreams`.

  Steps run in a thread while there is work, one at a time; the engine is only
  touched between them. Use it from one event loop.

  Args:
    engine: which nobody else steps.
  """

  def __init__(self, engine: engine_lib.Engine):
    self._engine = engine
    self._between_steps = asyncio.Lock()
    self._streams: dict[int, asyncio.Queue[Event | Exception]] = {}
    self._stepping: asyncio.Task | None = None

  async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
    """Yields what happens to a request; see `TokenStreams`."""
    events: asyncio.Queue[Event | Exception] = asyncio.Queue()
    async with self._between_steps:
      number = self._engine.add(request)
      self._streams[number] = events
    self._wake()
    try:
      while True:
        event = await events.get()
        if isinstance(event, Exception):
          raise event
        yield event
        if event.completion is not None:
          return
    finally:
      del self._streams[number]
      async with self._between_steps:
        self._engine.abort(number)
      self._wake()

  async def park(self, number: int) -> None:
    """Stops computing a request; see `Engine.park`."""
    async with self._between_steps:
      self._engine.park(number)

  async def inject(self, number: int, tokens: list[int]) -> None:
    """Appends tokens behind the last one that was seen; see `Engine.inject`.

    Tokens that wait in the request's stream were seen by the engine: take them
    all before (a parked request has no more to come).
    """
    async with self._between_steps:
      self._engine.inject(number, tokens)
    self._wake()

  def _wake(self) -> None:
    if self._stepping is None or self._stepping.done():
      self._stepping = asyncio.create_task(self._step_while_needed())

  async def _step_while_needed(self) -> None:
    try:
      while self._engine.has_work:
        async with self._between_steps:
          events = await asyncio.to_thread(self._engine.step)
        for event in events:
          if event.number in self._streams:
            self._streams[event.number].put_nowait(event)
    except Exception as error:  # nobody awaits this task: tell everybody
      for stream in self._streams.values():
        stream.put_nowait(error)
