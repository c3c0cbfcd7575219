"""One replicate of a scenario: its days, tables and checkpoints."""

import math
import pathlib
from typing import Any, Protocol, runtime_checkable

from jax.sharding import Mesh

from research.runs import files
from research.systems.epicast import (
  checkpoint,
  engine,
  eventlog,
  events,
  outputs,
  progress,
  sharding,
)
from research.systems.epicast.scenario import compiling

_DAYS = 10  # between two looks at the outputs


@runtime_checkable
class Ends(Protocol):
  """Tells a run when to stop early.

  Attributes:
    over: stop after the days at hand, with a checkpoint.
  """

  over: bool


def run(
  model: compiling.Model,
  folder: pathlib.Path,
  stamp: checkpoint.Stamp,
  meter: progress.Meter,
  ends: Ends,
  mesh: Mesh | None = None,
) -> dict[str, Any]:
  """Runs a replicate, or what is left of it.

  Args:
    model: of the scenario.
    folder: of the replicate.
    stamp: what its checkpoints belong to.
    meter: shows how far it is.
    ends: asked after every few days.
    mesh: over which agents are spread; on one device if left out.

  Returns:
    What became of it: `state`, `days`, and the final state's SHA-256, the same
    however the run was interrupted or laid out.

  Raises:
    KeyboardInterrupt: `ends` is over and everything is written.
  """
  scenario, mark = model.scenario, folder / "done.json"
  if mark.exists():
    done = files.read_json(mark)
    if done["days"] == scenario.duration:
      return done
    mark.unlink()
  world, state = model.world, model.start(stamp.replicate)
  if mesh is not None:
    world, state = sharding.place(world, state, mesh)
  state, rows = _resume(model, world, state, folder, stamp)
  if scenario.checkpoint_interval < 0:
    checkpoint.save(folder / "checkpoints", world, state, stamp)
    return {"state": "begun", "days": int(state.day)}
  day = int(state.day)
  log = _Log(model, folder, stamp.replicate, mesh)
  log.begin(world, state)
  meter.begin(stamp.replicate, day)
  while day < scenario.duration:
    last = _boundary(day, scenario.duration, scenario.checkpoint_interval)
    days: list[engine.Daily] = []
    for _ in range(day, last):  # one compiled loop, whatever the stretch
      before = state
      state, daily = _day(world, state, mesh)
      days.append(daily)
      log.day(world, before, state)
    log.write(day)
    rows.append(outputs.daily(model, stamp.replicate, day, days))
    outputs.write(folder / "daily.parquet", outputs.join(rows))
    day = last
    if ends.over or _is_due(
      day, scenario.duration, scenario.checkpoint_interval
    ):
      checkpoint.save(folder / "checkpoints", world, state, stamp)
    meter.step(day, int(days[-1].infections.sum()))
    if ends.over:
      raise KeyboardInterrupt
  ages = outputs.ages(model, stamp.replicate, state)
  outputs.write(folder / "ages.parquet", ages)
  done = {
    "state": "done",
    "days": day,
    "sha256": checkpoint.digest(world, state),
  }
  files.write_json(mark, done)
  return done


def _day(
  world: engine.World, state: engine.State, mesh: Mesh | None
) -> tuple[engine.State, engine.Daily]:
  if mesh is None:
    return engine.run(world, state, days=1)
  return sharding.run(world, state, days=1, mesh=mesh)


class _Log:
  """The event log of a replicate, if the scenario asks for it."""

  def __init__(
    self,
    model: compiling.Model,
    folder: pathlib.Path,
    replicate: int,
    mesh: Mesh | None,
  ):
    scenario = model.scenario
    self._folder, self._mesh = folder, mesh
    self._parts: list[events.Table] = []
    self._recorder = None
    if scenario.events:
      self._recorder = events.Recorder(
        model.population,
        scenario.disease,
        scenario.contacts,
        scenario.fear,
        seed=scenario.rng_seed,
        replicate=replicate,
      )

  def begin(self, world: engine.World, state: engine.State) -> None:
    """Removes what a killed run wrote of days that come again."""
    if self._recorder:
      eventlog.forget(self._folder, int(state.day))
      if int(state.day) == 0:
        self._parts.append(self._recorder.begin(world, state))

  def day(
    self, world: engine.World, before: engine.State, after: engine.State
  ) -> None:
    """Notes what happened in a day."""
    if self._recorder:
      found = self._recorder.day(world, before, after, self._mesh)
      self._parts.append(found)

  def write(self, first: int) -> None:
    """Writes the part that begins with a day."""
    if self._recorder:
      eventlog.write(self._folder, first, outputs.join(self._parts))
      self._parts.clear()
      if spilled := self._recorder.spilled:
        print(
          f"note: {spilled:,} events were more than a device's buffer holds at "
          "once; they followed later and are in the log"
        )
        self._recorder.spilled = 0


def _boundary(day: int, duration: int, interval: int) -> int:
  """The next day on which outputs or a checkpoint are due."""
  next_one = lambda step: (day // step + 1) * step
  due = next_one(interval) if interval else math.inf
  return int(min(next_one(_DAYS), due, duration))


def _is_due(day: int, duration: int, interval: int) -> bool:
  return interval > 0 and (day % interval == 0 or day == duration)


def _resume(
  model: compiling.Model,
  world: engine.World,
  state: engine.State,
  folder: pathlib.Path,
  stamp: checkpoint.Stamp,
) -> tuple[engine.State, list[outputs.Table]]:
  """The last state whose days are all on disk, and these days' rows."""
  path = checkpoint.latest(folder / "checkpoints")
  if path is None:
    return state, []
  found = checkpoint.load(path, world, state, stamp)
  if int(found.day) == 0:
    return found, []
  rows = outputs.read(folder / "daily.parquet")  # written before the state
  wanted = int(found.day) * len(model.population.fips)
  return found, [{name: column[:wanted] for name, column in rows.items()}]
