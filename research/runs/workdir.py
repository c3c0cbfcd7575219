"""The folder of one run: what it was asked, where it ran, what came out."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from research.runs import config as config_lib
from research.runs import errors, files, lock, provenance


class Workdir:
  """A folder that belongs to one config.

  Attributes:
    path: the folder.
    writes: whether this process writes; in a job of several processes only
      the first does, and all must see the same file system.
  """

  def __init__(self, path: pathlib.Path | str, *, writes: bool = True):
    """Opens the folder, and makes it when missing.

    Args:
      path: the folder.
      writes: False in all processes of a job but the first.

    Raises:
      UserError: the folder cannot be written.
    """
    self.path = pathlib.Path(path)
    self.writes = writes
    if writes:
      _ensure_writable(self.path)

  @contextlib.contextmanager
  def hold(self) -> Iterator[None]:
    """Keeps other runs out until the block ends (see `lock.hold`)."""
    with lock.hold(self.path) if self.writes else contextlib.nullcontext():
      yield

  def claim(self, config: config_lib.ExperimentConfig) -> None:
    """Ties the folder to a config, or checks that it already belongs to it.

    Args:
      config: the config about to run.

    Raises:
      UserError: the folder holds a run of another config.
    """
    path = self.path / "config.json"
    wanted = config_lib.to_dict(config)
    if path.exists():
      found = config_lib.first_difference(files.read_json(path), wanted)
      if found:
        name, old, new = found
        raise errors.UserError(
          f"workdir {self.path}: got a run with {name}={old!r}, expected "
          f"{name}={new!r}; choose another --workdir, or pass "
          f"--config.{name}={old}"
        )
    elif self.writes:
      files.write_json(path, wanted)

  @property
  def finished(self) -> bool:
    """Whether the run in this folder wrote its result."""
    return (self.path / "result.json").exists()

  def begin(self, seed: int) -> dict[str, Any]:
    """Writes `run.json` for a session that starts or resumes now.

    Earlier sessions of the same run stay listed under `earlier`.

    Args:
      seed: the config's seed.

    Returns:
      What was written.
    """
    path = self.path / "run.json"
    run = provenance.collect(seed)
    earlier = []
    if path.exists():
      last = files.read_json(path)
      earlier = last.pop("earlier")
      kept = ("commit", "dirty", "argv", "started")
      earlier.append({name: last[name] for name in kept})
    run |= {"earlier": earlier, "ended": None, "seconds": None}
    if self.writes:
      files.write_json(path, run)
    return run

  def end(self, run: dict[str, Any], seconds: float) -> None:
    """Notes in `run.json` that the run is complete.

    Args:
      run: what `begin` returned.
      seconds: wall time of the last session.
    """
    if self.writes:
      run = run | {"ended": provenance.now(), "seconds": round(seconds, 3)}
      files.write_json(self.path / "run.json", run)


def _ensure_writable(path: pathlib.Path) -> None:
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      pass
  except OSError as error:
    raise errors.UserError(
      f"workdir {path}: got '{error.strerror}', expected a folder that can be "
      "written; choose another folder"
    ) from error
