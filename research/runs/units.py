"""Long work in named pieces, each kept as soon as it is done."""

import hashlib
import pathlib
import re
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich import progress as rich_progress

from research.runs import errors, files, workdir

Arrays = dict[str, np.ndarray]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CHECKSUM = "sha256"
# What NumPy and zipfile raise on a file that is missing, cut off or garbled.
_TORN = (
  OSError,
  EOFError,
  ValueError,
  KeyError,
  RuntimeError,
  zipfile.BadZipFile,
  zlib.error,
)


class Units:
  """The pieces of one stage of a run, stored under the workdir.

  A run that is killed and started again computes only what is not stored. What
  `map` returns is read back from what it stored, so the numbers are the same
  bits however often the run was interrupted.

  Example:
    >>> import tempfile
    >>> folder = workdir.Workdir(tempfile.mkdtemp())
    >>> squares = Units(folder, "squares")
    >>> _ = squares.put("3", {"x": 9})
    >>> int(squares.get("3")["x"])
    9
  """

  def __init__(self, folder: workdir.Workdir, stage: str):
    """Opens a stage.

    Args:
      folder: the run's workdir.
      stage: what the units are, e.g. `"windows"`; also the folder's name.
    """
    self._folder = folder
    self._stage = _checked(stage)

  def get(self, name: str) -> Arrays | None:
    """Returns a stored unit; None if it is not there or was torn."""
    path = self._path(name)
    try:
      with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    except _TORN:
      return None
    checksum = arrays.pop(_CHECKSUM, None)
    if checksum is None or str(checksum) != _digest(arrays):
      return None
    return arrays

  def put(self, name: str, arrays: Mapping[str, object]) -> Arrays:
    """Stores a unit, whole or not at all.

    Args:
      name: the unit's name: letters, digits, `.`, `_` and `-`.
      arrays: anything that NumPy turns into an array of numbers or texts.

    Returns:
      The arrays as `get` will return them.

    Raises:
      ValueError: an array holds Python objects, or is named `sha256`.
    """
    stored = {key: np.asarray(value) for key, value in arrays.items()}
    for key, value in stored.items():
      if value.dtype.hasobject or key == _CHECKSUM:
        raise ValueError(
          f"unit '{name}': got '{key}' of type {value.dtype}, expected numbers "
          f"or texts under a name other than '{_CHECKSUM}'"
        )
    if self._folder.writes:
      checksum = {_CHECKSUM: np.asarray(_digest(stored))}
      files.write_npz(self._path(name), stored | checksum)
    return stored

  def map(
    self, names: Sequence[str], fn: Callable[[str], Mapping[str, object]]
  ) -> dict[str, Arrays]:
    """Computes the units that are not stored yet and returns all of them.

    Args:
      names: one name for each unit, in order.
      fn: computes the unit of that name; must depend on nothing that the
        order of units or an interruption could change.

    Returns:
      The arrays of each unit, in the order of `names`.
    """
    if len(set(names)) < len(names):
      raise ValueError(
        f"stage '{self._stage}': got a name twice, expected distinct names"
      )
    done: dict[str, Arrays] = {}
    with _Meter(self._stage, len(names), self._folder.writes) as meter:
      for name in names:
        arrays = self.get(name)
        was_stored = arrays is not None
        done[name] = self.put(name, fn(name)) if arrays is None else arrays
        meter.step(len(done), was_stored)
    return done

  def _path(self, name: str) -> pathlib.Path:
    folder = self._folder.path / "units" / self._stage
    return folder / f"{_checked(name)}.npz"


class _Meter:
  """A progress bar on a terminal, plain lines everywhere else."""

  def __init__(self, stage: str, total: int, shown: bool):
    self._stage = stage
    self._shown = shown
    self._total = total
    self._computed = 0
    self._start = time.monotonic()
    self._bar: rich_progress.Progress | None = None

  def __enter__(self) -> "_Meter":
    if self._shown and sys.stderr.isatty():
      self._bar = rich_progress.Progress(
        *rich_progress.Progress.get_default_columns(),
        rich_progress.MofNCompleteColumn(),
      )
      self._bar.start()
      self._bar.add_task(self._stage, total=self._total)
    return self

  def step(self, done: int, was_stored: bool) -> None:
    """Shows that `done` units are there."""
    self._computed += not was_stored
    if self._bar:
      self._bar.update(self._bar.task_ids[0], completed=done)
    elif self._shown and (not was_stored or done == self._total):
      each = (time.monotonic() - self._start) / max(self._computed, 1)
      left = each * (self._total - done)
      tail = f", about {left:.0f} s left" if left else ""
      print(f"{self._stage} {done}/{self._total}{tail}", flush=True)

  def __exit__(self, *_: object) -> None:
    if self._bar:
      self._bar.stop()


def _checked(name: str) -> str:
  if not _NAME.fullmatch(name):
    raise errors.UserError(
      f"unit '{name}': expected a name of letters, digits, '.', '_' and '-' "
      "that starts with a letter or digit; rename it"
    )
  return name


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
  """Hashes names, types, shapes and bytes of some arrays."""
  digest = hashlib.sha256()
  for key in sorted(arrays):
    value = np.ascontiguousarray(arrays[key])
    digest.update(f"{key} {value.dtype.str} {arrays[key].shape}\n".encode())
    digest.update(value.tobytes())
  return digest.hexdigest()
