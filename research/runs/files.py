"""Writes that are either whole or not there at all."""

import io
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Replaces a file in one step, so no reader ever sees half of it.

  The bytes reach the disk before the new name does: a crash leaves either the
  old file or the new one.

  Args:
    path: the file; its folder is made when missing.
    content: the whole new content.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
  try:
    with os.fdopen(handle, "wb") as stream:
      os.fchmod(stream.fileno(), 0o644)  # mkstemp makes it private
      stream.write(content)
      stream.flush()
      os.fsync(stream.fileno())
    os.replace(name, path)
  except BaseException:
    pathlib.Path(name).unlink(missing_ok=True)
    raise


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a text file in one step (UTF-8)."""
  write_bytes(path, text.encode())


def write_json(path: pathlib.Path, value: Any) -> None:
  """Replaces a JSON file in one step.

  Args:
    path: the file.
    value: plain JSON data.

  Raises:
    ValueError: the data holds NaN or an infinity, which JSON cannot say.
  """
  text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
  write_text(path, text + "\n")


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON file."""
  return json.loads(path.read_text(encoding="utf-8"))


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Replaces an `.npz` file in one step."""
  buffer = io.BytesIO()
  np.savez(buffer, allow_pickle=False, **dict(arrays))
  write_bytes(path, buffer.getvalue())
