"""The examples in docstrings do what they say.

They are taken from the source, because `doctest` does not look behind the
wrappers that check shapes.
"""

import ast
import doctest
import importlib
import pathlib

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_OURS = ("collectives", "experiments", "kernels_pallas", "research")


def _modules() -> dict[str, pathlib.Path]:
  found = {}
  for path in sorted(p for name in _OURS for p in (_ROOT / name).rglob("*.py")):
    if ">>> " in path.read_text(encoding="utf-8"):
      parts = path.relative_to(_ROOT).with_suffix("").parts
      found[".".join(parts).removesuffix(".__init__")] = path
  return found


_MODULES = _modules()


@pytest.mark.parametrize("name", _MODULES)
def test_examples(name: str):
  path = _MODULES[name]
  module = _import(name)
  runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
  said: list[str] = []
  for example in _examples(path, vars(module)):
    runner.run(example, out=said.append)
  assert runner.summarize(verbose=False).failed == 0, "".join(said)
  assert runner.tries > 0


def test_the_core_has_examples():
  assert {"research.mesh.rng", "research.runs.config"} <= set(_MODULES)


def _import(name: str):
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] in _OURS:
      raise
    pytest.skip(f"needs {error.name}")


def _examples(path: pathlib.Path, names: dict):
  documented = (
    ast.Module,
    ast.ClassDef,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
  )
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, documented):
      text = ast.get_docstring(node, clean=False) or ""
      line = getattr(node, "lineno", 1)
      label = getattr(node, "name", path.stem)
      example = doctest.DocTestParser().get_doctest(
        text, dict(names), label, str(path), line
      )
      if example.examples:
        yield example
