"""The environment with the GPU compilers, in which workers run."""

import os
import pathlib
import subprocess

_ENVIRONMENT = "DECTET_GPUCC_PYTHON"
_DEFAULT = pathlib.Path(".venv-gpucc", "bin", "python")


def find() -> str | None:
  """The environment's Python, if there is one."""
  path = _path()
  return path if pathlib.Path(path).is_file() else None


def python() -> str:
  """The environment's Python; skips the calling test where there is none."""
  path = find()
  if path is None:
    import pytest

    pytest.skip(
      f"no GPU compiler: got no file {_path()}, expected the Python of an "
      "environment with the packages of requirements-gpucc.lock there or in "
      f"${_ENVIRONMENT}"
    )
  return path


def _path() -> str:
  return os.environ.get(_ENVIRONMENT, str(_DEFAULT))


def run(python: str, worker: str, *arguments: str | pathlib.Path) -> str:
  """Runs a worker of this folder, and returns what it prints.

  Args:
    python: of the environment.
    worker: file name.
    *arguments: of the worker.

  Raises:
    AssertionError: it failed; with its last words.
  """
  file = pathlib.Path(__file__).with_name(worker)
  done = subprocess.run(
    [python, file, *arguments], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-4000:]
  return done.stdout
