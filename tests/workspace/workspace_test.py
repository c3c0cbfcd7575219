"""Every row of WORKSPACE.md is true, and none is missing."""

import ast
import importlib
import importlib.util
import pathlib
import re
import tomllib

import pytest

from experiments import papers
from research.mesh import meshes
from tests.workspace import markdown

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TEXT = (_ROOT / "WORKSPACE.md").read_text(encoding="utf-8")
_PACKAGES = {
  markdown.names(row["package"])[0]: row
  for row in markdown.table(_TEXT, "## Packages")
}


def _packages_in_the_tree() -> set[str]:
  found = {"experiments"}
  for pattern in (
    "collectives",
    "experiments/*",
    "kernels_pallas",
    "research/*",
    "research/systems/*",
  ):
    for init in _ROOT.glob(f"{pattern}/__init__.py"):
      found.add(".".join(init.parent.relative_to(_ROOT).parts))
  return found - {"research.systems"}


def _layers() -> list[list[str]]:
  """The packages of each layer that exist, from the top."""
  config = tomllib.loads((_ROOT / "pyproject.toml").read_text())
  (contract,) = [
    contract
    for contract in config["tool"]["importlinter"]["contracts"]
    if contract["type"] == "layers"
  ]
  return [
    [name for name in re.findall(r"[\w.]+", layer) if _exists(name)]
    for layer in contract["layers"]
  ]


def _exists(name: str) -> bool:
  return (_ROOT / name.replace(".", "/")).is_dir()


def _is_there(package: str, dotted: str) -> bool:
  """Whether a name is a module, or a value in one.

  A module that is named itself is not imported: it may define flags.
  """
  module, name = package, ""
  for part in dotted.split("."):
    assert not name, f"{module}.{name} is no module"
    below = f"{module}.{part}"
    module, name = (below, "") if _is_module(below) else (module, part)
  return not name or hasattr(importlib.import_module(module), name)


def _is_module(name: str) -> bool:
  path = _ROOT / name.replace(".", "/")
  return path.with_suffix(".py").is_file() or path.is_dir()


def _first_line(package: str) -> str:
  init = _ROOT / package.replace(".", "/") / "__init__.py"
  text = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8")))
  return (text or "").partition("\n")[0].rstrip(".")


def test_every_package_has_a_row():
  assert set(_PACKAGES) == _packages_in_the_tree()


@pytest.mark.parametrize("package", _PACKAGES)
def test_purpose_is_the_package_s_own(package: str):
  assert _PACKAGES[package]["purpose"] == _first_line(package)


@pytest.mark.parametrize("package", _PACKAGES)
def test_public_names_are_there(package: str):
  names = markdown.names(_PACKAGES[package]["public names"])
  assert names
  for name in names:
    assert _is_there(package, name), name


@pytest.mark.parametrize("package", _PACKAGES)
def test_may_import_is_what_the_contract_says(package: str):
  said = markdown.names(_PACKAGES[package]["may import"])
  if package.partition(".")[0] == "experiments":
    assert said == ["research"]
    return
  layers = _layers()
  own = next(
    i
    for i, layer in enumerate(layers)
    if any(package == name or package.startswith(f"{name}.") for name in layer)
  )
  below = [name for layer in layers[own + 1 :] for name in layer]
  assert said == [name.removeprefix("research.") for name in below]


def test_papers_are_the_registry_s():
  rows = markdown.table(_TEXT, "## Papers")
  assert [(markdown.names(row["slug"])[0], row["paper"]) for row in rows] == [
    (paper.slug, paper.arxiv) for paper in papers.PAPERS
  ]
  for row, paper in zip(rows, papers.PAPERS, strict=True):
    assert (row["status"] == "planned") == (paper.status == "planned")
    for column in ("package", "binary", "smoke command"):
      assert bool(markdown.names(row[column])) == (row["status"] != "planned")


def test_papers_can_be_run_as_said():
  for row in markdown.table(_TEXT, "## Papers"):
    for name in markdown.names(row["package"]) + markdown.names(row["binary"]):
      assert importlib.util.find_spec(name), name
    for command in markdown.names(row["smoke command"]):
      config = re.search(r"--config=(\S+)", command)
      assert config
      assert (_ROOT / config[1]).is_file()
      assert f"-m {markdown.names(row['binary'])[0]} " in command


def test_commands_exist():
  rows = markdown.table(_TEXT, "## Commands")
  assert rows
  for row in rows:
    (command,) = markdown.names(row["command"])
    module = re.match(r"python -m ([\w.]+)", command)
    assert module
    assert importlib.util.find_spec(module[1]), command


def test_mesh_axes_are_the_code_s():
  rows = markdown.table(_TEXT, "## Axes of meshes")
  said = {markdown.names(row["axis"])[0]: row["divides"] for row in rows}
  assert said == meshes.AXES


def test_single_letters_in_shapes_are_explained(sources):
  used = set()
  for path in sources:
    if "tests" in path.relative_to(_ROOT).parts:
      continue
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        shape = node.slice.elts[-1]
        if isinstance(shape, ast.Constant) and isinstance(shape.value, str):
          used |= {name for name in shape.value.split() if len(name) == 1}
  rows = markdown.table(_TEXT, "## Axes of arrays")
  explained = {markdown.names(row["axis"])[0] for row in rows}
  assert {name for name in used if name.isalpha()} == explained
