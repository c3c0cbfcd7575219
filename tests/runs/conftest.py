"""Makes the toy experiments importable, and runs them as users would."""

import importlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
  """The module of the toy experiment."""
  monkeypatch.syspath_prepend(HERE)
  return importlib.import_module("toys.pi.experiment")


@pytest.fixture
def toy_command() -> Callable[..., subprocess.Popen[str]]:
  """Starts the toy's `main.py` with some flags."""

  def start(*flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
      [sys.executable, "-m", "toys.pi.main", *flags],
      cwd=HERE,
      env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  return start
