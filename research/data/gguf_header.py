"""Parses the part of a GGUF file that comes before the tensors' data."""

import dataclasses
import math
import os
import pathlib
import struct
from typing import IO, Any

import numpy as np

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_DIMS = 4
_MAX_NESTING = 4
_READ_BYTES = 4 << 20

_STRING, _ARRAY = 8, 9
# Number of the value type -> numpy type of the scalar.
_SCALARS = {
  0: np.dtype("u1"),
  1: np.dtype("i1"),
  2: np.dtype("<u2"),
  3: np.dtype("<i2"),
  4: np.dtype("<u4"),
  5: np.dtype("<i4"),
  6: np.dtype("<f4"),
  7: np.dtype("?"),
  10: np.dtype("<u8"),
  11: np.dtype("<i8"),
  12: np.dtype("<f8"),
}
_U64 = struct.Struct("<Q")
_U32 = struct.Struct("<I")


class GGUFError(ValueError):
  """A GGUF file cannot be read; the message says what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class TensorRecord:
  """One tensor record as stored: sizes innermost first, relative offset."""

  name: str
  dims: tuple[int, ...]
  type: int
  offset: int


@dataclasses.dataclass(frozen=True)
class Header:
  """Everything before the data; offsets and lengths are in bytes."""

  version: int
  metadata: dict[str, Any]
  records: tuple[TensorRecord, ...]
  alignment: int
  data_offset: int
  file_bytes: int


class _Cursor:
  """Reads forward through the file, keeping what it has read so far."""

  def __init__(self, path: pathlib.Path, file: IO[bytes]):
    self.path = path
    self.file_bytes = os.fstat(file.fileno()).st_size
    self.position = 0
    self._file = file
    self._buffer = b""

  def _require(self, count: int) -> None:
    """Makes `count` more bytes available in the buffer."""
    missing = self.position + count - len(self._buffer)
    if missing <= 0:
      return
    if self.position + count > self.file_bytes:
      raise self.error(
        f"truncated or corrupt: the header needs {count} bytes at byte "
        f"{self.position}, but the file has {self.file_bytes}; fetch it again"
      )
    block = self._file.read(max(missing, _READ_BYTES, len(self._buffer)))
    self._buffer += block
    if len(block) < missing:
      raise self.error("the file shrank while it was read; fetch it again")

  def error(self, message: str) -> GGUFError:
    return GGUFError(f"{self.path}: {message}")

  def take(self, count: int) -> bytes:
    self._require(count)
    start, self.position = self.position, self.position + count
    return self._buffer[start : self.position]

  def u32(self) -> int:
    return _U32.unpack(self.take(4))[0]

  def u64(self) -> int:
    return _U64.unpack(self.take(8))[0]

  def count(self, what: str, smallest: int) -> int:
    """Reads a count of things that take at least `smallest` bytes each."""
    number = self.u64()
    left = self.file_bytes - self.position
    if number * smallest > left:
      raise self.error(
        f"truncated or corrupt: got {number} {what}, expected at most "
        f"{left // smallest} in the {left} bytes that are left"
      )
    return number

  def string(self) -> str:
    return self._text(self.take(self.count("bytes of text", 1)))

  def strings(self, number: int) -> list[str]:
    """Reads many strings; the loop is flat because vocabularies are long."""
    unpack, text = _U64.unpack_from, self._text
    found = []
    for _ in range(number):
      self._require(8)
      start = self.position + 8
      (length,) = unpack(self._buffer, self.position)
      self._require(8 + length)
      self.position = start + length
      found.append(text(self._buffer[start : self.position]))
    return found

  def _text(self, raw: bytes) -> str:
    try:
      return raw.decode()
    except UnicodeDecodeError:
      raise self.error(
        f"corrupt: the text before byte {self.position} is not UTF-8"
      ) from None


def _value(cursor: _Cursor, kind: int, nesting: int = 0) -> Any:
  if kind in _SCALARS:
    dtype = _SCALARS[kind]
    return np.frombuffer(cursor.take(dtype.itemsize), dtype)[0].item()
  if kind == _STRING:
    return cursor.string()
  if kind == _ARRAY and nesting < _MAX_NESTING:
    return _array(cursor, nesting)
  raise cursor.error(
    f"corrupt: got metadata type {kind} before byte {cursor.position}, "
    "expected 0 to 12 and arrays at most "
    f"{_MAX_NESTING} deep"
  )


def _array(cursor: _Cursor, nesting: int) -> Any:
  kind = cursor.u32()
  if kind in _SCALARS:
    dtype = _SCALARS[kind]
    number = cursor.count("array elements", dtype.itemsize)
    return np.frombuffer(cursor.take(number * dtype.itemsize), dtype)
  number = cursor.count("array elements", 8)
  if kind == _STRING:
    return cursor.strings(number)
  return [_value(cursor, kind, nesting + 1) for _ in range(number)]


def _record(cursor: _Cursor) -> TensorRecord:
  name = cursor.string()
  num_dims = cursor.u32()
  if num_dims > _MAX_DIMS:
    raise cursor.error(
      f"corrupt: tensor {name!r} has {num_dims} dimensions, expected at most "
      f"{_MAX_DIMS}"
    )
  dims = tuple(cursor.u64() for _ in range(num_dims))
  if math.prod(dims) >= 1 << 63:
    raise cursor.error(f"corrupt: tensor {name!r} has shape {dims[::-1]}")
  return TensorRecord(name, dims, cursor.u32(), cursor.u64())


def _check_start(cursor: _Cursor) -> int:
  magic = cursor.take(4)
  if magic != _MAGIC:
    raise cursor.error(
      f"not a GGUF file: got first bytes {magic!r}, expected {_MAGIC!r}"
    )
  version = cursor.u32()
  if version in _VERSIONS:
    return version
  swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
  order = " (a big-endian file)" if swapped in _VERSIONS else ""
  raise cursor.error(
    f"unsupported GGUF version: got {version}{order}, expected little-endian "
    "2 or 3; convert the file with a current converter"
  )


def _unique(cursor: _Cursor, what: str, names: list[str]) -> None:
  if len(set(names)) < len(names):
    twice = next(name for name in names if names.count(name) > 1)
    raise cursor.error(f"corrupt: {what} {twice!r} occurs twice")


def _alignment(cursor: _Cursor, metadata: dict[str, Any]) -> int:
  alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
  if type(alignment) is not int or alignment <= 0 or alignment % 8:
    raise cursor.error(
      f"corrupt: got general.alignment {alignment!r}, expected a positive "
      "multiple of 8"
    )
  return alignment


def read(path: pathlib.Path) -> Header:
  """Parses the header of a GGUF file.

  Args:
    path: the file.

  Returns:
    Metadata and tensor records; `data_offset` is where the data starts.

  Raises:
    GGUFError: the file is no readable GGUF file.
  """
  try:
    file = path.open("rb", buffering=0)
  except OSError as error:
    raise GGUFError(f"{path}: cannot be opened: {error.strerror}") from None
  with file:
    cursor = _Cursor(path, file)
    version = _check_start(cursor)
    num_tensors = cursor.count("tensors", 24)
    num_pairs = cursor.count("metadata pairs", 13)
    pairs = []
    for _ in range(num_pairs):
      key = cursor.string()
      pairs.append((key, _value(cursor, cursor.u32())))
    _unique(cursor, "metadata key", [key for key, _ in pairs])
    metadata = dict(pairs)
    records = tuple(_record(cursor) for _ in range(num_tensors))
    _unique(cursor, "tensor", [record.name for record in records])
    alignment = _alignment(cursor, metadata)
    data_offset = -(-cursor.position // alignment) * alignment
    return Header(
      version, metadata, records, alignment, data_offset, cursor.file_bytes
    )
