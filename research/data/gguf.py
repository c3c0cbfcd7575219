"""Reads GGUF model files (versions 2 and 3, little-endian).

A file is a header (magic, version, counts), metadata pairs, one record per
tensor, and the tensors' data, each starting at a multiple of the alignment.
Tensors are read one by one with plain reads, never through a long-lived
mapping, so that loading a model costs little more memory than its weights.

References:
  The GGUF specification in the ggml project, docs/gguf.md.
"""

import dataclasses
import math
import os
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float32

from research.data import dequantize, ggml_types, gguf_header

GGUFError = gguf_header.GGUFError

_ALIGNMENT = 64  # bytes
_READ_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class TensorInfo:
  """Where and how one tensor lies in the file.

  Attributes:
    name: the tensor's name, such as "blk.0.attn_q.weight".
    shape: sizes in numpy's order (the file stores them reversed).
    type: name of the tensor type, such as "Q4_1".
    offset: first byte, counted from the start of the file.
    nbytes: length in the file in bytes.
  """

  name: str
  shape: tuple[int, ...]
  type: str
  offset: int
  nbytes: int


@dataclasses.dataclass(frozen=True)
class GGUFFile:
  """The metadata and tensor table of one GGUF file.

  Attributes:
    path: the file.
    version: GGUF version, 2 or 3.
    metadata: key -> value; number arrays are numpy arrays, others are lists.
    tensors: name -> where it lies, in the order of the file.
  """

  path: pathlib.Path
  version: int
  metadata: dict[str, Any]
  tensors: dict[str, TensorInfo]

  @classmethod
  def open(cls, path: str | os.PathLike[str]) -> "GGUFFile":
    """Parses the header and checks that every tensor lies in the file.

    Args:
      path: a GGUF file.

    Returns:
      The parsed file; no tensor has been read yet.

    Raises:
      GGUFError: no GGUF file, truncated, corrupt, or an unsupported version.
    """
    path = pathlib.Path(path)
    header = gguf_header.read(path)
    tensors = {r.name: _place(path, r, header) for r in header.records}
    _check_size(path, header.file_bytes, tensors)
    return cls(path, header.version, header.metadata, tensors)

  def load(self, name: str) -> Float32[np.ndarray, "..."]:
    """Reads one tensor and decodes it to float32.

    Args:
      name: a key of `tensors`.

    Returns:
      The values in numpy's shape order.

    Raises:
      GGUFError: no such tensor, an unsupported type, or a short file.
    """
    info = self.tensors.get(name)
    if info is None:
      raise GGUFError(
        f"{self.path}: no tensor {name!r} among its {len(self.tensors)} "
        "tensors; expected a key of `tensors`"
      )
    if info.type not in dequantize.SUPPORTED:
      raise GGUFError(
        f"{self.path}: tensor {name!r} has type {info.type}, which is not "
        f"supported; expected one of {', '.join(dequantize.SUPPORTED)}; "
        "convert the file to one of these"
      )
    values = _aligned(math.prod(info.shape))
    self._read_into(info, values)
    return values.reshape(info.shape)

  def _read_into(
    self, info: TensorInfo, values: Float32[np.ndarray, " n"]
  ) -> None:
    layout = _BY_NAME[info.type]
    step = _READ_BYTES // layout.block_bytes * layout.block_bytes
    buffer = np.empty(min(step, info.nbytes), np.uint8)
    done = 0
    with self.path.open("rb", buffering=0) as file:
      file.seek(info.offset)
      for start in range(0, info.nbytes, step):
        raw = buffer[: min(step, info.nbytes - start)]
        if not _fill(file, raw):
          raise GGUFError(
            f"{self.path}: the file ended inside tensor {info.name!r}; "
            f"expected {info.offset + info.nbytes} bytes; fetch it again"
          )
        count = raw.size // layout.block_bytes * layout.block_size
        dequantize.dequantize(raw, layout, out=values[done : done + count])
        done += count


_BY_NAME = {layout.name: layout for layout in ggml_types.TYPES.values()}


def _aligned(size: int) -> Float32[np.ndarray, " n"]:
  """An array that XLA's CPU backend takes over instead of copying it."""
  raw = np.empty(4 * size + _ALIGNMENT, np.uint8)
  start = -raw.ctypes.data % _ALIGNMENT
  return raw[start : start + 4 * size].view(np.float32)


def _fill(file: Any, raw: np.ndarray) -> bool:
  view = raw.data
  while view:
    count = file.readinto(view)
    if not count:
      return False
    view = view[count:]
  return True


def _place(
  path: pathlib.Path,
  record: gguf_header.TensorRecord,
  header: gguf_header.Header,
) -> TensorInfo:
  """Turns a tensor record into shape, absolute offset and length."""
  where = f"{path}: tensor {record.name!r}"
  layout = ggml_types.TYPES.get(record.type)
  if layout is None:
    raise GGUFError(
      f"{where} has unknown type number {record.type}; the file is corrupt or "
      "newer than this reader"
    )
  row = record.dims[0] if record.dims else 1
  if row % layout.block_size:
    raise GGUFError(
      f"{where} is corrupt: got rows of {row} values, expected a multiple of "
      f"{layout.block_size} ({layout.name})"
    )
  if record.offset % header.alignment:
    raise GGUFError(
      f"{where} is corrupt: got offset {record.offset}, expected a multiple "
      f"of the alignment {header.alignment}"
    )
  values = math.prod(record.dims)
  return TensorInfo(
    name=record.name,
    shape=record.dims[::-1],
    type=layout.name,
    offset=header.data_offset + record.offset,
    nbytes=values // layout.block_size * layout.block_bytes,
  )


def _check_size(
  path: pathlib.Path, file_bytes: int, tensors: dict[str, TensorInfo]
) -> None:
  ends = {t.name: t.offset + t.nbytes for t in tensors.values()}
  if not ends:
    return
  last = max(ends, key=ends.__getitem__)
  if ends[last] > file_bytes:
    raise GGUFError(
      f"{path}: truncated or corrupt: got {file_bytes} bytes, expected "
      f"{ends[last]} (the end of tensor {last!r}); fetch the file again"
    )
