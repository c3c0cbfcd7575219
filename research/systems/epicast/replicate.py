"""One replicate of a scenario: its days, tables and checkpoints."""

import math
import pathlib
from typing import Any, Protocol, runtime_checkable

from research.runs import files
from research.systems.epicast import checkpoint, engine, outputs, progress
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
) -> dict[str, Any]:
  """Runs a replicate, or what is left of it.

  Args:
    model: of the scenario.
    folder: of the replicate.
    stamp: what its checkpoints belong to.
    meter: shows how far it is.
    ends: asked after every few days.

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
  state, rows = _resume(model, folder, stamp)
  if scenario.checkpoint_interval < 0:
    checkpoint.save(folder / "checkpoints", model.world, state, stamp)
    return {"state": "begun", "days": int(state.day)}
  day = int(state.day)
  meter.begin(stamp.replicate, day)
  while day < scenario.duration:
    last = _boundary(day, scenario.duration, scenario.checkpoint_interval)
    days: list[engine.Daily] = []
    for _ in range(day, last):  # one compiled loop, whatever the stretch
      state, daily = engine.run(model.world, state, days=1)
      days.append(daily)
    rows.append(outputs.daily(model, stamp.replicate, day, days))
    outputs.write(folder / "daily.parquet", outputs.join(rows))
    day = last
    if ends.over or _is_due(
      day, scenario.duration, scenario.checkpoint_interval
    ):
      checkpoint.save(folder / "checkpoints", model.world, state, stamp)
    meter.step(day, int(days[-1].infections.sum()))
    if ends.over:
      raise KeyboardInterrupt
  ages = outputs.ages(model, stamp.replicate, state)
  outputs.write(folder / "ages.parquet", ages)
  done = {
    "state": "done",
    "days": day,
    "sha256": checkpoint.digest(model.world, state),
  }
  files.write_json(mark, done)
  return done


def _boundary(day: int, duration: int, interval: int) -> int:
  """The next day on which outputs or a checkpoint are due."""
  next_one = lambda step: (day // step + 1) * step
  due = next_one(interval) if interval else math.inf
  return int(min(next_one(_DAYS), due, duration))


def _is_due(day: int, duration: int, interval: int) -> bool:
  return interval > 0 and (day % interval == 0 or day == duration)


def _resume(
  model: compiling.Model, folder: pathlib.Path, stamp: checkpoint.Stamp
) -> tuple[engine.State, list[outputs.Table]]:
  """The last state whose days are all on disk, and these days' rows."""
  state = model.start(stamp.replicate)
  path = checkpoint.latest(folder / "checkpoints")
  if path is None:
    return state, []
  found = checkpoint.load(path, model.world, state, stamp)
  if int(found.day) == 0:
    return found, []
  rows = outputs.read(folder / "daily.parquet")  # written before the state
  wanted = int(found.day) * len(model.population.fips)
  return found, [{name: column[:wanted] for name, column in rows.items()}]
