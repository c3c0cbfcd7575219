"""Metrics of a run: one JSON line per call, and TensorBoard events.

`metrics.jsonl` is the record: a resumed run continues it without doubled or
torn lines. The events beside it are for looking at.
"""

import json
import math
import os
import pathlib
import re
import time
import types
from collections.abc import Mapping
from typing import Any, TypedDict

import jax
import numpy as np
import tensorboardX

FILE_NAME = "metrics.jsonl"
_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)+")


class Row(TypedDict):
  """One line of `metrics.jsonl`.

  A value that is not finite is null in `values` and named in `nonfinite`.
  """

  step: int
  time: float  # seconds since the epoch
  values: dict[str, float | None]
  nonfinite: list[str]


class MetricWriter:
  """Writes scalars of process 0; on every other process it does nothing.

  Names are `group/name`, the unit last in the name: `train/loss_nat`,
  `decode/step_ms`.

  Args:
    folder: where `metrics.jsonl` and the events go; created when missing.
    resume_step: the first step that this run will write. Older lines from that
      step on are cut, since the run repeats them. None keeps all whole lines.

  Raises:
    ValueError: the file holds a broken line that is not the last one.

  Example:
    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with MetricWriter(folder) as writer:
    ...   writer.scalars(0, {"train/loss_nat": 2.5})
    >>> read(folder / FILE_NAME)[0]["values"]
    {'train/loss_nat': 2.5}
  """

  def __init__(
    self, folder: pathlib.Path, *, resume_step: int | None = None
  ) -> None:
    self._writes = jax.process_index() == 0
    if not self._writes:
      return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    if path.exists():
      _mend(path, resume_step)
    self._lines = path.open("a")
    self._events = tensorboardX.SummaryWriter(
      str(folder), purge_step=resume_step
    )

  def __enter__(self) -> "MetricWriter":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: types.TracebackType | None,
  ) -> None:
    self.close()

  def scalars(
    self, step: int, values: Mapping[str, float | int | jax.Array | np.generic]
  ) -> None:
    """Writes one line and returns once it has left the process.

    Waits for arrays that are still being computed: to keep the device busy,
    write the values of a step after the next step has been dispatched.

    Args:
      step: number of the step, counted from 0.
      values: scalars by name.

    Raises:
      ValueError: a name is not `group/name`, or a value is not a scalar.
    """
    if not self._writes:
      return
    numbers = {name: _number(name, value) for name, value in values.items()}
    now = time.time()
    row = Row(
      step=step,
      time=now,
      values={k: v if math.isfinite(v) else None for k, v in numbers.items()},
      nonfinite=[k for k, v in numbers.items() if not math.isfinite(v)],
    )
    self._lines.write(json.dumps(row, allow_nan=False) + "\n")
    self._lines.flush()
    for name, number in numbers.items():
      self._events.add_scalar(name, number, step, walltime=now)

  def close(self) -> None:
    """Writes what is buffered and closes the files; a second call is free."""
    if self._writes:
      self._lines.close()
      self._events.close()


def read(path: pathlib.Path) -> list[Row]:
  """Reads `metrics.jsonl`, without a last line torn by a killed run.

  Raises:
    ValueError: a line that is not the last one is broken.
  """
  rows = []
  lines = path.read_text().split("\n")
  for number, line in enumerate(lines, start=1):
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError as error:
      if number == len(lines):  # what follows the last newline: "" or torn
        break
      raise ValueError(
        f"got a broken line {number} in {path} ({error}); expected JSON; mend"
        " it or move the file away and start anew"
      ) from error
  return rows


def _mend(path: pathlib.Path, resume_step: int | None) -> None:
  """Cuts a torn last line and the steps that the run will repeat."""
  cut = math.inf if resume_step is None else resume_step
  kept = [row for row in read(path) if row["step"] < cut]
  whole = path.with_suffix(".tmp")
  with whole.open("w") as file:
    file.writelines(json.dumps(row) + "\n" for row in kept)
    file.flush()
    os.fsync(file.fileno())
  whole.replace(path)  # a second kill leaves the old file or the new one


def _number(name: str, value: Any) -> float:
  if not _NAME.fullmatch(name):
    raise ValueError(
      f"got the metric name {name!r}; expected group/name in lower case with"
      " the unit last, such as train/loss_nat"
    )
  if np.ndim(value) != 0:
    raise ValueError(
      f"got shape {np.shape(value)} for the metric {name}; expected a scalar;"
      " reduce it first"
    )
  return float(value)
