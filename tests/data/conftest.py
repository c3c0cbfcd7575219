"""The real model file (skipped where it cannot be fetched), and goldens."""

import json
import pathlib
import runpy
from collections.abc import Callable
from typing import Any

import pytest

from research.data import gguf

_HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
  path = _HERE.parent / "golden" / "tokenizers.json"
  return json.loads(path.read_text())


@pytest.fixture(scope="session")
def write_vocab() -> Callable[..., pathlib.Path]:
  # Not importable by name: test folders are no packages.
  return runpy.run_path(str(_HERE / "vocab_files.py"))["write"]


@pytest.fixture(scope="session")
def smollm2_file(smollm2_path: pathlib.Path) -> gguf.GGUFFile:
  return gguf.GGUFFile.open(smollm2_path)
