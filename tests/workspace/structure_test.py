"""The shape of the code: sizes, docstrings, and what must not be in it."""

import ast
import functools
import pathlib
import re

import pytest

# Put together here, so that this file does not hold what it looks for.
_FOLDERS = "|".join(("home", "root", "work"))
_MACHINE_PATH = re.compile(rf"(?<![\w.~)}}-])/({_FOLDERS})(?=/)")
_INDEX_HOSTS = tuple(
  ".".join(parts)
  for parts in (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("registry", "npmjs"),
    ("deb", "debian"),
  )
)
_PEERS_ONLY = {"tensorflow", "torch", "transformers"}
_DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def _tree(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text(encoding="utf-8"))


def _lines(path: pathlib.Path) -> int:
  return len(path.read_text(encoding="utf-8").splitlines())


def _p90(sizes: list[int]) -> int:
  return sorted(sizes)[int(0.9 * len(sizes))]


def _code(sources: list[pathlib.Path], root: pathlib.Path):
  apart = root / "tests", root / "experiments" / "colabs"  # notebooks speak
  return [path for path in sources if not set(apart) & set(path.parents)]


def test_files_are_short(sources):
  sizes = {path: _lines(path) for path in sources}
  longest = max(sizes, key=lambda path: sizes[path])
  assert sizes[longest] <= 900, longest
  assert _p90(list(sizes.values())) <= 500


def test_functions_are_short(sources):
  sizes = {}
  for path in sources:
    for node in ast.walk(_tree(path)):
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        size = (node.end_lineno or 0) - node.lineno + 1
        sizes[f"{path.name}:{node.lineno} {node.name}"] = size
  longest = max(sizes, key=lambda name: sizes[name])
  assert sizes[longest] <= 150, longest
  assert _p90(list(sizes.values())) <= 50


def test_every_public_name_is_explained(sources, root):
  silent = []
  for path in _code(sources, root):
    tree = _tree(path)
    where = path.relative_to(root)
    if not ast.get_docstring(tree):
      silent.append(f"{where}: module")
    for node in tree.body:
      if isinstance(node, _DOCUMENTED) and not node.name.startswith("_"):
        if not ast.get_docstring(node):
          silent.append(f"{where}: {node.name}")
  assert not silent


def test_no_utils_and_no_deferred_annotations(sources, root):
  """A drawer for everything, and what would switch shape checks off."""
  for path in sources:
    assert path.name != "utils.py", path.relative_to(root)
    for node in ast.walk(_tree(path)):
      if isinstance(node, ast.ImportFrom):
        assert node.module != "__future__", path.relative_to(root)


def test_only_peer_workers_import_other_frameworks(sources, root):
  peers = root / "experiments" / "tools" / "peers"
  found = []
  for path in _code(sources, root):
    for node in ast.walk(_tree(path)):
      if isinstance(node, ast.Import):
        names = [name.name for name in node.names]
      elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
      else:
        continue
      heavy = {name.partition(".")[0] for name in names} & _PEERS_ONLY
      if heavy and peers not in path.parents:
        found.append(f"{path.relative_to(root)}:{node.lineno} {heavy}")
  assert not found


def test_no_machine_path_and_no_index_host(files, root):
  found = []
  for path in files:
    try:
      text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
      continue  # an image, an archive, weights
    for number, line in enumerate(text.splitlines(), 1):
      host = next((host for host in _INDEX_HOSTS if host in line), None)
      match = _MACHINE_PATH.search(line)
      if host or match:
        what = host or line[match.start() : match.start() + 40]
        found.append(f"{path.relative_to(root)}:{number} {what}")
  assert not found


@pytest.mark.parametrize(
  ("line", "found"),
  [
    ("see {} now", True),
    ("argv: ['{}']", True),
    ("out{}", False),
    ("example.com{}", False),
  ],
)
def test_machine_paths_are_recognised(line, found):
  path = "/" + "root/main/x.py"
  assert bool(_MACHINE_PATH.search(line.format(path))) == found


def test_there_are_enough_tests(sources, root):
  code = sum(map(_lines, _code(sources, root)))
  tests = sum(map(_lines, sources)) - code
  print(f"\ntest lines / source lines = {tests} / {code} = {tests / code:.2f}")
  assert tests >= 0.5 * code
