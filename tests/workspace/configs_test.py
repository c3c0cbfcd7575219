"""Every config opens with what a reader needs before starting it."""

import pathlib
import re

import pytest

from research.runs import config

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_CONFIGS = sorted((_ROOT / "experiments").glob("*/configs/*.py"))


@pytest.mark.parametrize(
  "path", _CONFIGS, ids=lambda p: f"{p.parts[-3]}-{p.stem}"
)
def test_header(path: pathlib.Path):
  header = config.describe(path)
  slug = path.parts[-3]
  assert f"python -m experiments.{slug}.main " in header.command
  assert f"--config={path.relative_to(_ROOT)}" in header.command
  assert "--workdir=" in header.command
  assert re.search(r"\d{4}\.\d{5}", header.paper), header.paper
  assert re.search(r"\d G?M?B", header.expected), header.expected
  assert header.minutes > 0


@pytest.mark.parametrize("slug", sorted({path.parts[-3] for path in _CONFIGS}))
def test_sizes(slug: str):
  """CI runs `smoke`, `make reproduce` runs `laptop`."""
  sizes = {path.stem for path in _CONFIGS if path.parts[-3] == slug}
  assert {"smoke", "laptop"} <= sizes


def test_there_are_configs():
  assert _CONFIGS
