"""Shared libraries, compiled once a machine and kept in the cache."""

import pathlib
import subprocess
import tempfile
from collections.abc import Sequence

from research.data import artifacts


class NativeError(RuntimeError):
  """A library cannot be had on this machine."""


def build(name: str, command: Sequence[str]) -> pathlib.Path:
  """Returns a compiled library, from the cache where it has it.

  Args:
    name: file name; names all that goes into the library, compiler included.
    command: of the compiler, without `-o`.

  Raises:
    NativeError: the compiler fails; with its first error.
  """
  target = artifacts.cache_dir() / "native" / name
  if target.is_file():
    return target
  target.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=target.parent) as folder:
    made = pathlib.Path(folder, "native.so")
    done = subprocess.run(
      [*command, "-o", str(made)], capture_output=True, text=True
    )
    if done.returncode:
      words = done.stderr + done.stdout
      lines = [x for x in words.splitlines() if "error" in x]
      raise NativeError(f"{command[0]} fails: {(lines or ['no message'])[0]}")
    made.rename(target)  # whole or not at all, whoever else is building
  return target
