"""The real model file (skipped where it cannot be fetched), and goldens."""

import json
import os
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


@pytest.fixture
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  """An empty cache, and a pip that knows the folder `served` alone."""
  (tmp_path / "served").mkdir()
  for name in [name for name in os.environ if name.startswith("PIP_")]:
    monkeypatch.delenv(name)
  monkeypatch.setenv("DECTET_CACHE_DIR", str(tmp_path / "cache"))
  monkeypatch.delenv("DECTET_OFFLINE", raising=False)
  monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
  monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
  monkeypatch.setenv("PIP_NO_INDEX", "1")
  monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "served"))
