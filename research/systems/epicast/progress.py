"""How far a run is, and how fast."""

import sys
import time

from rich import progress


class Meter:
  """A progress bar on a terminal, plain lines everywhere else.

  Speeds are of the last stretch, compilation included, in agent-days per second
  of wall and of CPU time of this process (all its threads).
  """

  def __init__(self, agents: int, days: int):
    self._agents = agents
    self._days = days
    self._bar: progress.Progress | None = None
    self._name, self._last = "", 0
    self._task = progress.TaskID(0)
    self._clock = (time.perf_counter(), time.process_time())

  def __enter__(self) -> "Meter":
    if sys.stderr.isatty():
      self._bar = progress.Progress()
      self._bar.start()
    return self

  def begin(self, replicate: int, day: int) -> None:
    """Notes that a replicate goes on from a day."""
    self._name, self._last = f"replicate {replicate}", day
    self._clock = (time.perf_counter(), time.process_time())
    if self._bar:
      self._task = self._bar.add_task(
        self._name, total=self._days, completed=day
      )

  def step(self, day: int, infections: int) -> None:
    """Shows that days up to this one are done.

    Args:
      day: that comes next.
      infections: on the last day.
    """
    now = (time.perf_counter(), time.process_time())
    done = self._agents * (day - self._last)
    wall, cpu = (
      done / max(after - before, 1e-9)
      for after, before in zip(now, self._clock, strict=True)
    )
    self._last, self._clock = day, now
    speed = f"{wall:.2g} agent-days/s, {cpu:.2g} a CPU-second"
    if self._bar:
      text = f"{self._name}: {infections:,} infected that day, {speed}"
      self._bar.update(self._task, completed=day, description=text)
    else:
      print(
        f"{self._name}, day {day}/{self._days}: {infections:,} infected that "
        f"day, {speed}",
        flush=True,
      )

  def __exit__(self, *_: object) -> None:
    if self._bar:
      self._bar.stop()
