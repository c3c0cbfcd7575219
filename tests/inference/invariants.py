"""What must be true of an engine's pages and queues between any two steps."""

import collections

from research.inference import engine as engine_lib
from research.inference.request import State


def check(engine: engine_lib.Engine) -> None:
  """Raises AssertionError where a page is leaked, stolen or wasted."""
  scheduler = engine.scheduler
  queues = {
    State.WAITING: scheduler.waiting,
    State.PARKED: scheduler.parked,
  }
  everybody = [*scheduler.waiting, *scheduler.running, *scheduler.parked]
  assert set(map(id, everybody)) == set(map(id, engine._live.values()))
  assert len(everybody) == len(set(map(id, everybody)))
  for state, queue in queues.items():
    assert all(sequence.state is state for sequence in queue)
  for queue in (scheduler.waiting, scheduler.running, scheduler.parked):
    assert [s.number for s in queue] == sorted(s.number for s in queue)
  assert not any(s.drafts for s in everybody if not s.in_flight)
  for sequence in scheduler.running:
    assert sequence.state in (State.RUNNING, State.INJECTED)
  _check_slots(scheduler)
  _check_pages(scheduler, everybody)


def _check_slots(scheduler) -> None:
  slots = [sequence.slot for sequence in scheduler.running]
  assert None not in slots
  assert len(slots) == len(set(slots))
  assert not set(slots) & set(scheduler._free_slots)
  idle = (*scheduler.waiting, *scheduler.parked)
  assert all(sequence.slot is None for sequence in idle)


def _check_pages(scheduler, everybody) -> None:
  memory = scheduler.memory
  cached, size = memory.cache.held, memory.page_size
  holders = collections.Counter(cached)
  for sequence in everybody:
    pages = sequence.pages
    assert len(pages) == len(set(pages))
    holders.update(pages)
    assert len(pages) <= memory.count(sequence.total + len(sequence.drafts))
    assert sequence.scheduled <= len(pages) * size
    assert sequence.scheduled <= sequence.total
    assert sequence.confirmed <= max(sequence.scheduled, len(sequence.tokens))
    assert (len(sequence.tokens) - 1) // size >= sum(p in cached for p in pages)
  assert {p: n for p, n in enumerate(memory.allocator.holders) if n} == holders
  assert all(n == 1 or p in cached for p, n in holders.items())
  free = memory.allocator.free
  assert len(free) == len(set(free))
  assert set(free) == set(range(memory.num_pages)) - set(holders)
