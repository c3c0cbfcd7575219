"""The README's examples run, and its table is that of the registry."""

import doctest
import pathlib

import collectives
from collectives import algorithms

_README = pathlib.Path(collectives.__file__).parent / "README.md"


def test_examples():
  failed, tried = doctest.testfile(str(_README), module_relative=False)
  assert tried > 10
  assert not failed


def test_decision_table():
  rows = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in _README.read_text(encoding="utf-8").splitlines()
    if line.startswith("| `") and line.count("|") == 5
  ]
  assert {tuple(row[:3]) for row in rows if row[1]} == {
    (f"`{name}`", collective.replace("_", "-"), form.formula)
    for name, algorithm in algorithms.ALGORITHMS.items()
    for collective, form in algorithm.forms.items()
  }
