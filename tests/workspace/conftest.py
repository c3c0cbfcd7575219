"""The checkout, as the tests of the workspace see it."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
  return ROOT


@pytest.fixture(scope="session")
def files(root: pathlib.Path) -> list[pathlib.Path]:
  """Every file that is committed, or would be by `git add .`."""
  command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
  done = subprocess.run(command, cwd=root, capture_output=True, text=True)
  if done.returncode:
    pytest.skip("needs a git checkout")
  paths = [root / name for name in done.stdout.split("\0") if name]
  return [path for path in paths if path.is_file()]


@pytest.fixture(scope="session")
def sources(
  root: pathlib.Path, files: list[pathlib.Path]
) -> list[pathlib.Path]:
  """The Python files, tests included."""
  names = ("collectives", "experiments", "kernels_pallas", "research", "tests")
  folders = [root / name for name in names]
  return [
    path
    for path in files
    if path.suffix == ".py" and any(map(path.is_relative_to, folders))
  ]
