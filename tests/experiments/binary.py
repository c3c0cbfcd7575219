"""An experiment's smoke config, run as a user runs it."""

import pathlib
import subprocess
import sys

import pytest

from research.runs import claims, golden

ROOT = pathlib.Path(__file__).parents[2]


def command(slug: str, workdir: pathlib.Path, *flags: str) -> list[str]:
  """Returns the command of an experiment."""
  return [
    *(sys.executable, "-m", f"experiments.{slug}.main"),
    f"--config=experiments/{slug}/configs/smoke.py",
    *(f"--workdir={workdir}", *flags),
  ]


def run(
  slug: str, workdir: pathlib.Path, *flags: str
) -> subprocess.CompletedProcess[str]:
  """Runs an experiment."""
  return subprocess.run(
    command(slug, workdir, *flags),
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=200,
  )


def finished(slug: str, factory: pytest.TempPathFactory) -> pathlib.Path:
  """Returns the folder of a run that ended well."""
  workdir = factory.mktemp("smoke")
  done = run(slug, workdir)
  assert done.returncode == 0, done.stderr
  return workdir


def golden_claims(
  slug: str, workdir: pathlib.Path, request: pytest.FixtureRequest
) -> claims.Result:
  """Compares claims with the golden ones; returns them."""
  result = claims.load(workdir / "result.json")
  file = ROOT / f"tests/golden/claims/{slug}.json"
  if request.config.getoption("--update-golden"):
    golden.update_golden(result, file)
  assert golden.check_golden(result, file) == []
  return result
