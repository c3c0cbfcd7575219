"""Notebooks and their readable sources say the same; nbmake executes them."""

import pathlib
from typing import Any

import jupytext
import pytest

from experiments import papers

COLABS = pathlib.Path(__file__).parents[2] / "experiments/colabs"


@pytest.mark.parametrize(
  "slug", [p.slug for p in papers.PAPERS if p.status == "available"]
)
def test_notebook_is_its_source(slug):
  source = _read(COLABS / f"{slug}.py")
  notebook = _read(COLABS / f"{slug}.ipynb")
  text = lambda book: [(cell.cell_type, cell.source) for cell in book.cells]
  assert text(notebook) == text(source), (
    f"run: jupytext --to ipynb experiments/colabs/{slug}.py"
  )
  assert not any(cell.get("outputs") for cell in notebook.cells)


def _read(path: pathlib.Path) -> Any:
  return jupytext.read(path)
