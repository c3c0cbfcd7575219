import contextlib
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import gguf as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data import gguf

_TENSORS = {
  "embed": np.arange(64, dtype=np.float32).reshape(2, 32),
  "norm": np.linspace(-1, 1, 5, dtype=np.float32),
  "half": np.arange(12, dtype=np.float16).reshape(2, 3, 2),
}
_METADATA = {
  "a.uint8": ("add_uint8", 255),
  "a.int8": ("add_int8", -128),
  "a.uint16": ("add_uint16", 65535),
  "a.int16": ("add_int16", -32768),
  "a.uint32": ("add_uint32", 2**32 - 1),
  "a.int32": ("add_int32", -(2**31)),
  "a.uint64": ("add_uint64", 2**64 - 1),
  "a.int64": ("add_int64", -(2**63)),
  "a.float32": ("add_float32", 0.5),
  "a.float64": ("add_float64", 0.1),
  "a.bool": ("add_bool", True),
  "a.string": ("add_string", "naïve 漢字"),
  "a.strings": ("add_array", ["", "x", "é"]),
  "a.ints": ("add_array", [1, -2, 3]),
  "a.floats": ("add_array", [0.5, -0.25]),
  "a.bools": ("add_array", [True, False]),
}


def _write(path: pathlib.Path, alignment: int = 32) -> pathlib.Path:
  writer = oracle.GGUFWriter(path, "llama")
  if alignment != 32:
    writer.add_custom_alignment(alignment)
  for key, (method, value) in _METADATA.items():
    getattr(writer, method)(key, value)
  for name, values in _TENSORS.items():
    writer.add_tensor(name, values)
  quantised = oracle.quants.quantize(
    np.ones((3, 64), np.float32), oracle.GGMLQuantizationType.Q4_1
  )
  writer.add_tensor(
    "quantised", quantised, raw_dtype=oracle.GGMLQuantizationType.Q4_1
  )
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return _write(tmp_path_factory.mktemp("gguf") / "small.gguf")


def _fields(number: int, *records: bytes, pairs: int = 0, version: int = 3):
  """A file whose header counts `number` tensors and `pairs` pairs."""
  head = b"GGUF" + struct.pack("<IQQ", version, number, pairs)
  return head + b"".join(records)


def _record(name: bytes, dims: tuple[int, ...], kind: int, offset: int):
  return (
    struct.pack("<Q", len(name))
    + name
    + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
  )


def _error(tmp_path: pathlib.Path, content: bytes) -> str:
  path = tmp_path / "bad.gguf"
  path.write_bytes(content)
  with pytest.raises(gguf.GGUFError) as caught:
    gguf.GGUFFile.open(path)
  message = str(caught.value)
  assert "\n" not in message
  assert message.startswith(str(path))
  return message


def test_metadata_of_every_type(small):
  file = gguf.GGUFFile.open(small)
  assert file.version == 3
  assert file.metadata["general.architecture"] == "llama"
  for key, (_, expected) in _METADATA.items():
    got = file.metadata[key]
    if isinstance(got, np.ndarray):
      got = got.tolist()
    assert got == expected, key
    assert type(got) is type(expected), key


@pytest.mark.parametrize("alignment", [32, 64, 8])
def test_tensors_equal_what_was_written(tmp_path, alignment):
  file = gguf.GGUFFile.open(_write(tmp_path / "a.gguf", alignment))
  assert list(file.tensors) == [*_TENSORS, "quantised"]
  for name, expected in _TENSORS.items():
    info = file.tensors[name]
    assert info.shape == expected.shape
    assert info.nbytes == expected.nbytes
    assert info.offset % alignment == 0
    np.testing.assert_array_equal(file.load(name), expected)
  assert file.tensors["quantised"].type == "Q4_1"
  np.testing.assert_allclose(file.load("quantised"), np.ones((3, 64)), 1e-3)


def test_version_2_reads_like_version_3(small, tmp_path):
  content = bytearray(small.read_bytes())
  content[4:8] = struct.pack("<I", 2)
  path = tmp_path / "v2.gguf"
  path.write_bytes(content)
  old, new = gguf.GGUFFile.open(path), gguf.GGUFFile.open(small)
  assert old.version == 2
  assert old.tensors == new.tensors
  assert list(old.metadata) == list(new.metadata)


def test_real_file_agrees_with_the_gguf_package(smollm2_file):
  reader = oracle.GGUFReader(smollm2_file.path)
  for key, value in smollm2_file.metadata.items():
    got = value.tolist() if isinstance(value, np.ndarray) else value
    assert got == reader.fields[key].contents(), key
  for tensor in reader.tensors:
    info = smollm2_file.tensors[tensor.name]
    assert info.shape == tuple(int(n) for n in tensor.shape[::-1])
    assert (info.offset, info.nbytes) == (tensor.data_offset, tensor.n_bytes)


def test_not_a_gguf_file(tmp_path):
  message = _error(tmp_path, b"PK\x03\x04" + bytes(100))
  assert "not a GGUF file: got first bytes b'PK\\x03\\x04'" in message
  assert "expected b'GGUF'" in message


def test_missing_file(tmp_path):
  with pytest.raises(gguf.GGUFError, match="No such file or directory"):
    gguf.GGUFFile.open(tmp_path / "absent.gguf")


@pytest.mark.parametrize(
  ("version", "got"), [(1, "got 1,"), (0x03000000, "(a big-endian file)")]
)
def test_unsupported_version(tmp_path, version, got):
  message = _error(tmp_path, _fields(0, version=version))
  assert "unsupported GGUF version" in message
  assert got in message
  assert "expected little-endian 2 or 3" in message


def test_truncated_header(small, tmp_path):
  message = _error(tmp_path, small.read_bytes()[:200])
  assert "expected at most 13 in the 176 bytes that are left" in message
  message = _error(tmp_path, b"GGUF\3\0\0")
  assert "the header needs 4 bytes at byte 4, but the file has 7" in message


def test_truncated_data(small, tmp_path):
  content = small.read_bytes()
  cut = gguf.GGUFFile.open(small).tensors["quantised"]
  message = _error(tmp_path, content[: cut.offset + 10])
  assert (
    f"got {cut.offset + 10} bytes, expected {cut.offset + cut.nbytes} "
    "(the end of tensor 'quantised'); fetch the file again"
  ) in message


def test_file_that_shrinks_after_opening(small, tmp_path):
  path = tmp_path / "shrinking.gguf"
  path.write_bytes(small.read_bytes())
  file = gguf.GGUFFile.open(path)
  os.truncate(path, file.tensors["embed"].offset + 5)
  with pytest.raises(gguf.GGUFError, match="ended inside tensor 'embed'"):
    file.load("embed")


def test_absurd_counts(tmp_path):
  message = _error(tmp_path, _fields(2**60))
  assert f"got {2**60} tensors, expected at most 0" in message
  message = _error(tmp_path, _fields(0, pairs=2**60))
  assert "metadata pairs" in message


def test_corrupt_records(tmp_path):
  data = bytes(64)
  cases = {
    "has 9 dimensions, expected at most 4": _record(b"t", (1,) * 9, 0, 0),
    "has shape": _record(b"t", (2**40, 2**40), 0, 0),
    "expected a multiple of the alignment 32": _record(b"t", (4,), 0, 4),
    "got rows of 20 values, expected a multiple of 32 (Q4_1)": _record(
      b"t", (20,), 3, 0
    ),
    "unknown type number 77": _record(b"t", (32,), 77, 0),
    "is not UTF-8": _record(b"\xff", (1,), 0, 0),
    "the end of tensor 't'": _record(b"t", (4,), 0, 2**40),
  }
  for text, record in cases.items():
    assert text in _error(tmp_path, _fields(1, record, data))
  twice = _record(b"t", (1,), 0, 0) * 2
  assert "tensor 't' occurs twice" in _error(tmp_path, _fields(2, twice, data))


def test_deeply_nested_arrays_are_refused(tmp_path):
  key = struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9)
  nested = struct.pack("<IQ", 9, 1) * 5000
  message = _error(tmp_path, _fields(0, key, nested, pairs=1))
  assert "arrays at most 4 deep" in message


def test_bad_alignment(tmp_path):
  name = b"general.alignment"
  pair = struct.pack("<Q", len(name)) + name + struct.pack("<II", 4, 0)
  message = _error(tmp_path, _fields(0, pair, pairs=1))
  assert "got general.alignment 0, expected a positive multiple of 8" in message


def test_unsupported_quantisation_is_named(tmp_path):
  path = tmp_path / "k.gguf"
  record = _record(b"blk.0.w", (256,), 13, 0)
  path.write_bytes(_fields(1, record).ljust(4096, b"\0"))
  file = gguf.GGUFFile.open(path)  # metadata stays readable
  with pytest.raises(gguf.GGUFError) as caught:
    file.load("blk.0.w")
  assert "tensor 'blk.0.w' has type Q5_K, which is not supported" in str(
    caught.value
  )
  assert "expected one of F32, F16, BF16, Q8_0, Q4_0, Q4_1" in str(caught.value)


def test_unknown_tensor(small):
  with pytest.raises(gguf.GGUFError, match="no tensor 'nope' among its 4"):
    gguf.GGUFFile.open(small).load("nope")


def _open_and_load(content: bytes) -> None:
  """Reads everything; only GGUFError may come out."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "f.gguf"
    path.write_bytes(content)
    file = gguf.GGUFFile.open(path)
    for name in file.tensors:
      file.load(name)


def test_truncation_at_any_byte_is_an_error(small):
  content = small.read_bytes()
  needed = max(
    t.offset + t.nbytes for t in gguf.GGUFFile.open(small).tensors.values()
  )
  for length in range(needed):
    with pytest.raises(gguf.GGUFError):
      _open_and_load(content[:length])


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_flipped_bytes_raise_nothing_else(small, data):
  content = bytearray(small.read_bytes())
  for _ in range(data.draw(st.integers(1, 4))):
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
  with contextlib.suppress(gguf.GGUFError):
    _open_and_load(bytes(content))


_MEASURE = """
import resource, sys
from research.data import gguf
def peak():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
file = gguf.GGUFFile.open(sys.argv[1])
weights = [file.load(name) for name in file.tensors]
print((peak() - before) / sum(w.nbytes for w in weights))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB there")
def test_peak_memory_of_loading_the_model(smollm2_path):
  root = pathlib.Path(gguf.__file__).parents[2]
  done = subprocess.run(
    [sys.executable, "-c", _MEASURE, str(smollm2_path)],
    capture_output=True,
    text=True,
    check=True,
    cwd=root,
  )
  assert float(done.stdout) <= 1.3
