"""One script is all of CI, and system packages are asked for politely."""

import os
import pathlib
import shutil
import subprocess

import pytest
import yaml

_SKIPPED = "tests that need chromium chromium-driver g++ iproute2 are skipped"


@pytest.fixture
def bare_path(tmp_path: pathlib.Path) -> str:
  """A PATH without browser and without apt."""
  for name in ("bash", "dirname"):
    program = shutil.which(name)
    if program is None:
      pytest.skip(f"needs {name}")
    (tmp_path / name).symlink_to(program)
  return str(tmp_path)


def _install_apt(
  root: pathlib.Path, *argv: str, path: str
) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    [str(root / "third_party" / "install_apt.sh"), *argv],
    env=os.environ | {"PATH": path},
    capture_output=True,
    text=True,
  )


def test_workflow_only_calls_the_script(root):
  text = (root / ".github" / "workflows" / "ci.yml").read_text()
  (job,) = yaml.safe_load(text)["jobs"].values()
  runs = [step["run"] for step in job["steps"] if "run" in step]
  assert runs == [".ci/run"]
  assert job["env"]["PYTHON"] == "python${{ matrix.python }}"


def test_script_lints_and_ends_with_the_tests(root):
  script = root / ".ci" / "run"
  assert os.access(script, os.X_OK)
  lines = [
    line
    for line in script.read_text().splitlines()
    if line and not line.startswith("#")
  ]
  assert lines[0] == "set -euo pipefail"
  assert lines[-3:] == ["make lint", "make gpucc", "make test"]
  subprocess.run(["bash", "-n", str(script)], check=True)


def test_missing_packages_are_named_in_one_line(root, bare_path):
  done = _install_apt(root, "--check", path=bare_path)
  assert done.returncode == 0, done.stderr
  assert done.stdout == (
    f"{_SKIPPED} (third_party/install_apt.sh installs them as root)\n"
  )


def test_without_apt_nothing_fails(root, bare_path):
  done = _install_apt(root, path=bare_path)
  assert done.returncode == 0, done.stderr
  assert done.stdout == (
    f"{_SKIPPED}, and there is no root or no apt to install them\n"
  )


def test_present_packages_need_no_word(root, bare_path):
  for name in ("chromium", "chromedriver", "g++", "ip"):
    program = pathlib.Path(bare_path) / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
  done = _install_apt(root, path=bare_path)
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
