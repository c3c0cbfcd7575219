"""The event log on disk: a part for every few days of a replicate.

A run that goes on from a checkpoint first removes parts of later days, so no
event is there twice.
"""

import pathlib

import numpy as np

from research.systems.epicast import events, outputs


def write(folder: pathlib.Path, first: int, log: events.Table) -> None:
  """Writes a part.

  Args:
    folder: of the replicate.
    first: day with which it begins.
    log: of `events.Recorder`.
  """
  (folder / "events").mkdir(parents=True, exist_ok=True)
  outputs.write(folder / "events" / f"day-{first:05d}.parquet", shown(log))


def forget(folder: pathlib.Path, day: int) -> None:
  """Removes parts of days from one on."""
  for path in _parts(folder):
    if int(path.stem.removeprefix("day-")) >= day:
      path.unlink()


def read(folder: pathlib.Path) -> events.Table:
  """All parts of a replicate, in order."""
  log = outputs.join([outputs.read(path) for path in _parts(folder)])
  by = log["by"].astype(float)
  return log | {"by": np.where(np.isnan(by), -1, by).astype(np.int64)}


def shown(log: events.Table) -> events.Table:
  """A log in which nobody is null, for files."""
  return log | {"by": np.ma.masked_less(log["by"], 0)}


def _parts(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted((folder / "events").glob("day-*.parquet"))
