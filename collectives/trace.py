"""Shows a schedule in Perfetto or chrome://tracing."""

import json
import pathlib

from collectives import schedule as sched


def to_trace(schedule: sched.Schedule) -> dict:
  """Draws messages as slices at sender and receiver, with an arrow between.

  A step is drawn 1 ms wide whatever it carries: this is the order of things,
  not their time.

  Args:
    schedule: what to draw.

  Returns:
    The trace, ready for `json.dump`: nodes are processes, ranks are threads.

  Example:
    >>> from collectives import algorithms
    >>> ring = algorithms.find("ring", "all_gather")
    >>> trace = to_trace(ring.schedule("all_gather", sched.Grid(2)))
    >>> [event["name"] for event in trace["traceEvents"] if event["ph"] == "X"]
    ['send to 1', 'receive from 0', 'send to 0', 'receive from 1']
  """
  local = schedule.grid.local
  phases = [phase for phase in schedule.phases for _ in phase.steps]
  steps = schedule.steps
  events = [
    _event(rank, local, "M", "thread_name") | {"args": {"name": f"rank {rank}"}}
    for rank in range(schedule.grid.size)
  ]
  arrows = 0
  for time, tick in enumerate(schedule.timeline()):
    for chunk, index in tick:
      for src, dst, slots, action in steps[index]:
        shown = {
          "cat": phases[index].name,
          "args": {"slots": list(slots), "action": action, "chunk": chunk},
        }
        arrows += 1
        for rank, name, phase, delay in (
          (src, f"send to {dst}", "s", 0),
          (dst, f"receive from {src}", "f", 500),
        ):
          when = {"ts": 1000 * time + delay}
          slice_ = _event(rank, local, "X", name) | when | shown
          events.append(slice_ | {"dur": 500})
          arrow = _event(rank, local, phase, "message") | when | {"bp": "e"}
          events.append(arrow | {"cat": "message", "id": arrows})
  return {
    "traceEvents": events,
    "otherData": {"schedule": str(schedule).splitlines()[0]},
  }


def save(schedule: sched.Schedule, path: pathlib.Path) -> None:
  """Writes `to_trace(schedule)` to a file that Perfetto opens."""
  path.write_text(json.dumps(to_trace(schedule)), encoding="utf-8")


def _event(rank: int, local: int, phase: str, name: str) -> dict:
  return {"pid": rank // local, "tid": rank, "ph": phase, "name": name}
