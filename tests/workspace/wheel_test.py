"""The wheel holds what it should, and works where only it is installed."""

import importlib.metadata
import pathlib
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest
from packaging import requirements

_PACKAGES = {"collectives", "kernels_pallas", "research"}
_IMPORT_ALL = """
import importlib, pkgutil, sys

blocked = set(sys.argv[1].split(","))


class Refuse:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in blocked:
      raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Refuse())
import collectives, kernels_pallas, research

names = [
  m.name
  for package in (collectives, kernels_pallas, research)
  for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
]
for name in names:
  importlib.import_module(name)
print(len(names), research.__file__)
"""


@pytest.fixture(scope="module")
def wheel(
  tmp_path_factory: pytest.TempPathFactory, root: pathlib.Path
) -> pathlib.Path:
  """The wheel of this checkout."""
  out = tmp_path_factory.mktemp("wheel")
  options = ["--wheel", "--no-isolation", "--outdir", str(out)]
  _run(sys.executable, "-m", "build", *options, str(root))
  (path,) = out.glob("dectet-*.whl")
  return path


def _run(*command: str, cwd: pathlib.Path | None = None) -> str:
  done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


def _environment(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Makes an empty environment; returns its Python and its site-packages."""
  venv.create(folder)
  paths = {"base": str(folder), "platbase": str(folder)}
  site = pathlib.Path(sysconfig.get_path("purelib", "venv", paths))
  return folder / "bin" / "python", site


def _install(python: pathlib.Path, *what: str) -> None:
  command = [sys.executable, "-m", "pip", "--python", str(python), "install"]
  quiet = ["--quiet", "--disable-pip-version-check"]
  _run(*command, *quiet, *what)


def _import_all(
  python: pathlib.Path, blocked: set[str], cwd: pathlib.Path
) -> list[str]:
  """Imports every module of the wheel; returns their number and place."""
  argv = ("-I", "-c", _IMPORT_ALL, ",".join(blocked))
  return _run(str(python), *argv, cwd=cwd).split(maxsplit=1)


def _beyond_base(site: pathlib.Path) -> set[str]:
  """Names that can be imported here, but not from the wheel's dependencies."""
  (dist,) = importlib.metadata.distributions(name="dectet", path=[str(site)])
  needed: set[str] = set()
  queue = list(dist.requires or ())
  while queue:
    requirement = requirements.Requirement(queue.pop())
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    extras = ["", *requirement.extras]
    if name in needed or not any(
      requirement.marker is None or requirement.marker.evaluate({"extra": e})
      for e in extras
    ):
      continue
    needed.add(name)
    for text in importlib.metadata.requires(name) or ():
      marker = requirements.Requirement(text).marker
      if marker is None or any(marker.evaluate({"extra": e}) for e in extras):
        queue.append(text.partition(";")[0])
  owners = importlib.metadata.packages_distributions()
  normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
  return {
    module
    for module, dists in owners.items()
    if module not in _PACKAGES and not needed & set(map(normal, dists))
  }


def test_holds_the_library_and_nothing_else(wheel, root):
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
    manifest = archive.read("research/data/artifacts.toml")
  assert manifest == (root / "third_party" / "artifacts.toml").read_bytes()
  shipped = {name for name in names if ".dist-info/" not in name}
  assert {name.partition("/")[0] for name in shipped} == _PACKAGES
  sources = {
    str(path.relative_to(root))
    for package in _PACKAGES
    for path in (root / package).rglob("*")
    if path.suffix in (".py", ".cc")
  }
  assert sources <= shipped
  assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)


def test_imports_from_elsewhere_without_extras(wheel, tmp_path):
  """Dependencies are this environment's; those of extras are hidden."""
  python, site = _environment(tmp_path / "clean")
  _install(python, "--no-deps", "--no-index", str(wheel))
  (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
  blocked = _beyond_base(site)
  assert {"beartype", "gguf", "matplotlib", "pytest"} <= blocked
  assert not {"flax", "jax", "numpy", "tokenizers"} & blocked
  count, place = _import_all(python, blocked, tmp_path)
  assert int(count) > 30
  assert pathlib.Path(place).is_relative_to(site)


@pytest.mark.slow
def test_installs_with_its_dependencies(wheel, tmp_path):
  python, site = _environment(tmp_path / "clean")
  _install(python, str(wheel))
  _, place = _import_all(python, set(), tmp_path)
  assert pathlib.Path(place).is_relative_to(site)
