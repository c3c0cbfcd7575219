"""The commands that a newcomer types first."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
  shutil.which("make") is None, reason="needs make"
)
_INHERITED = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHON")


def _make(
  folder: pathlib.Path, *argv: str, **environment: str
) -> subprocess.CompletedProcess[str]:
  inherited = {k: v for k, v in os.environ.items() if k not in _INHERITED}
  return subprocess.run(
    ["make", *argv],
    cwd=folder,
    env=inherited | environment,
    capture_output=True,
    text=True,
  )


def _program(path: pathlib.Path, script: str) -> pathlib.Path:
  path.write_text(f"#!/bin/sh\n{script}\n")
  path.chmod(0o755)
  return path


@pytest.fixture
def bare(tmp_path: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
  """A checkout that needs no package and holds a half-made environment."""
  shutil.copy(root / "Makefile", tmp_path)
  (tmp_path / "requirements.lock").touch()
  (tmp_path / ".venv" / "bin").mkdir(parents=True)
  (tmp_path / ".venv" / "bin" / "python").touch()
  return tmp_path


def test_help_comes_first_and_lists_every_target(root):
  done = _make(root)
  assert done.returncode == 0
  assert "usage: make TARGET" in done.stdout
  phony = re.search(r"^\.PHONY: (.*)$", (root / "Makefile").read_text(), re.M)
  assert phony
  listed = re.findall(r"^  ([a-z-]+) +\S", done.stdout, re.M)
  assert listed == [name for name in phony[1].split() if name != "FORCE"]


def test_reproduce_passes_its_variables_on(root):
  done = _make(root, "-n", "reproduce", "PAPER=plexus", "OUT=elsewhere")
  assert done.returncode == 0, done.stderr
  assert "-m experiments.reproduce --out='elsewhere'" in done.stdout
  assert "--paper='plexus'" in done.stdout
  assert "--paper" not in _make(root, "-n", "reproduce").stdout


def test_full_tests_are_a_flag_and_an_environment_away(root):
  assert "pytest --full" not in _make(root, "-n", "test").stdout
  full = _make(root, "-n", "-W", "requirements-peers.txt", "test-full").stdout
  assert "pytest --full" in full
  assert ".venv-peers/bin/python -m pip install" in full


def test_lint_runs_every_tool(root):
  plan = _make(root, "-n", "lint").stdout
  for tool in ("ruff format --check", "ruff check", "pyrefly", "lint-imports"):
    assert f".venv/bin/{tool}" in plan


def test_old_python_gives_one_line(bare):
  """Nothing that is there already is touched."""
  old = _program(
    bare / "python3.9", '[ "$1" = --version ] && echo Python 3.9.2'
  )
  done = _make(bare, ".venv/.locked", f"PYTHON={old}")
  assert done.returncode == 2
  line, *rest = done.stderr.splitlines()
  assert line == (
    f"PYTHON: got '{old}' (Python 3.9.2), expected Python >= 3.11 with venv; "
    "pass PYTHON=/path/to/python3.11"
  )
  assert len(rest) == 1  # make's own
  assert (bare / ".venv" / "bin" / "python").exists()


def test_no_python_gives_one_line(bare):
  tools = bare / "tools"
  tools.mkdir()
  for name in ("echo", "head", "sh"):
    (tools / name).symlink_to(str(shutil.which(name)))
  make = shutil.which("make")
  assert make
  (tools / "make").symlink_to(make)
  done = _make(bare, ".venv/.locked", PATH=str(tools))
  assert done.returncode == 2
  assert "PYTHON: got '' (not a Python), expected Python >= 3.11" in done.stderr


def test_environment_is_made_once_and_again_when_interrupted(bare):
  half = bare / ".venv" / "half-made"
  half.touch()
  python = f"PYTHON={sys.executable}"
  made = _make(bare, ".venv/.locked", python)
  assert made.returncode == 0, made.stderr
  assert made.stdout.startswith("making .venv: Python 3.")
  assert not half.exists()
  assert _make(bare, "-q", ".venv/.locked", python).returncode == 0
  version = (bare / ".venv" / ".locked").read_text().strip()

  other = _program(bare / "other", "echo 3.99.0")
  again = ("-q", ".venv/.locked")
  assert _make(bare, *again, f"PYTHON={other}").returncode == 1
  same = _program(bare / "same", f"echo {version}")
  assert _make(bare, *again, f"PYTHON={same}").returncode == 0
  assert _make(bare, *again).returncode == 0
  assert _make(bare, *again, "-W", "requirements.lock").returncode == 1
  (bare / ".venv" / "bin" / "python").unlink()
  assert _make(bare, *again).returncode == 1
