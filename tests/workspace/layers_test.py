"""The layers hold, and what breaks them is caught."""

import pathlib
import shutil
import subprocess
import sys

import pytest


def _lint(folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
  script = pathlib.Path(sys.executable).parent / "lint-imports"
  return subprocess.run(
    [script, "--no-cache", "--no-logo"],
    cwd=folder,
    capture_output=True,
    text=True,
  )


@pytest.fixture
def checkout(tmp_path: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
  """A copy of the code that a test may spoil."""
  shutil.copy(root / "pyproject.toml", tmp_path)
  packages = ("collectives", "experiments", "kernels_pallas", "research")
  for package in packages:
    shutil.copytree(
      root / package,
      tmp_path / package,
      ignore=shutil.ignore_patterns("__pycache__", "results"),
    )
  return tmp_path


def test_layers_hold(root):
  done = _lint(root)
  assert done.returncode == 0, done.stdout
  assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
  ("file", "text", "broken"),
  [
    (
      "research/mesh/planted.py",
      "from research.runs import config",
      "research.mesh.planted -> research.runs.config",
    ),
    (
      "kernels_pallas/planted.py",
      "from research.transformer import cache",
      "kernels_pallas.planted -> research.transformer.cache",
    ),
    (
      "collectives/planted.py",
      "from research.inference import sampling",
      "collectives.planted -> research.inference.sampling",
    ),
    (
      "research/systems/planted.py",
      "from research.systems import sift_attention",
      "research.systems.planted -> research.systems.sift_attention",
    ),
    (
      "experiments/tools/planted.py",
      "import torch",
      "experiments.tools.planted -> torch",
    ),
  ],
)
def test_a_planted_violation_is_caught(checkout, file, text, broken):
  (checkout / file).write_text(f'"""Planted."""\n\n{text}\n')
  done = _lint(checkout)
  assert done.returncode == 1
  assert "2 kept, 1 broken" in done.stdout
  assert broken in done.stdout
