"""The README's examples run, and the modules that it names are there."""

import doctest
import importlib
import pathlib

from research.systems import epicast
from tests.workspace import markdown

_README = pathlib.Path(epicast.__file__).parent / "README.md"


def test_examples():
  failed, tried = doctest.testfile(str(_README), module_relative=False)
  assert tried > 20
  assert not failed


def test_modules_are_there():
  rows = markdown.table(
    _README.read_text(encoding="utf-8"), "## What stands where"
  )
  for row in rows:
    for name in markdown.names(row["module"]):
      assert importlib.import_module(f"research.systems.epicast.{name}")
