"""Where a result comes from: commit, command, machine, devices."""

import datetime
import os
import pathlib
import subprocess
import sys
from typing import Any

from research.cluster import probe


def collect(seed: int) -> dict[str, Any]:
  """Gathers what `run.json` says about a run that starts now.

  Args:
    seed: the config's seed.

  Returns:
    JSON data: commit, dirty, argv, machine (with versions), devices, seed,
    started.
  """
  import jax  # here, so that reading old runs stays light

  commit, dirty = commit_of(pathlib.Path(__file__).parent)
  kinds = [device.device_kind for device in jax.devices()]
  return {
    "commit": commit,
    "dirty": dirty,
    "argv": [_relative(argument) for argument in sys.orig_argv[1:]],
    "machine": probe.machine(),
    "devices": [
      f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds)
    ],
    "processes": jax.process_count(),
    "seed": seed,
    "started": now(),
  }


def now() -> str:
  """Returns the time, UTC, to the second, as ISO 8601."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def commit_of(folder: pathlib.Path) -> tuple[str, bool | None]:
  """Returns the git commit that a folder is at, and if files differ from it.

  Args:
    folder: somewhere inside a clone.

  Returns:
    `("unknown", None)` outside a clone, as in an installed wheel.
  """
  try:
    head = _git(folder, "rev-parse", "HEAD")
    # An installed wheel may lie inside a stranger's repository.
    _git(folder, "ls-files", "--error-unmatch", ".")
    return head, bool(_git(folder, "status", "--porcelain"))
  except (OSError, subprocess.CalledProcessError):
    return "unknown", None


def _git(folder: pathlib.Path, *arguments: str) -> str:
  return subprocess.run(
    ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
  ).stdout.strip()


def _relative(argument: str) -> str:
  """Shortens absolute paths, so that a committed run names no one's home."""
  here = os.getcwd() + os.sep
  home = os.path.expanduser("~") + os.sep
  return argument.replace(here, "").replace(home, f"~{os.sep}")
