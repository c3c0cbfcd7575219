"""The calls of `handler.cu`, compiled once a machine and kept in the cache."""

import ctypes
import functools
import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
from collections.abc import Sequence

import jax
import jaxlib

from kernels_pallas import gpucc, native_build

#: What the handler is registered as, and its symbol in the library.
TARGET = "dectet_inter_node_all_reduce"
_HERE = pathlib.Path(__file__).parent
_SOURCES = (_HERE / "handler.cu", _HERE / "protocol.h")
_FLAGS = ("-std=c++17", "-O1", "-w", "-rdc=true", "-Xcompiler=-fPIC")
_WORDS = 400  # most of an error's text


class Library:
  """The host side of the handler, as Python calls it.

  A call that fails raises `native_build.NativeError` with the reason.
  """

  def __init__(self, path: pathlib.Path):
    self._calls = ctypes.CDLL(str(path))

  @property
  def handler(self):
    """For `jax.ffi.register_ffi_target`."""
    return jax.ffi.pycapsule(getattr(self._calls, TARGET))

  @property
  def unique_id_bytes(self) -> int:
    """Length of `unique_id()`."""
    self._calls.dectet_unique_id_bytes.restype = ctypes.c_int64
    return self._calls.dectet_unique_id_bytes()

  def unique_id(self) -> bytes:
    """A name for a group of processes that start together."""
    made = ctypes.create_string_buffer(self.unique_id_bytes)
    self._call("unique_id", made)
    return made.raw

  def start(self, device: int, rank: int, ranks: int, unique_id: bytes):
    """Starts NVSHMEM on a GPU; returns when all `ranks` have."""
    numbers = (ctypes.c_int32(x) for x in (device, rank, ranks))
    self._call("start", *numbers, unique_id)

  def open(
    self,
    name: str,
    members: Sequence[int],
    index: int,
    *,
    words: int,
    chunk: int,
    blocks: int,
    timeout: float,
  ):
    """Takes memory for calls among `members`; on all processes at once."""
    self._call(
      "open",
      name.encode(),
      (ctypes.c_int32 * len(members))(*members),
      ctypes.c_int32(len(members)),
      ctypes.c_int32(index),
      *(ctypes.c_int64(x) for x in (words, chunk, blocks)),
      ctypes.c_uint64(int(timeout * 1e9)),
    )

  def check(
    self, communicator: int, protocol: int, words: int, *, known: bool = True
  ):
    """Raises what the handler would say of its arguments."""
    numbers = ctypes.c_int32(protocol), ctypes.c_int32(known)
    self._call(
      "check", ctypes.c_int64(communicator), *numbers, ctypes.c_int64(words)
    )

  def failure(self, communicator: int):
    """Raises whom a call waited for in vain, if one did."""
    self._call("failure", ctypes.c_int64(communicator))

  def _call(self, name: str, *arguments):
    text = ctypes.create_string_buffer(_WORDS)
    call = getattr(self._calls, f"dectet_{name}")
    if call(*arguments, text, ctypes.c_int64(_WORDS)):
      raise native_build.NativeError(text.value.decode())


@functools.cache
def build(*architectures: int) -> pathlib.Path:
  """Compiles the handler and links NVSHMEM's device code into it.

  Args:
    *architectures: compute capabilities: 80 for an A100, 90 for an H100.

  Raises:
    native_build.NativeError: no nvcc, no NVSHMEM, or nvcc fails.
  """
  compiler, home = nvcc(), nvshmem_home()
  code = [f"-gencode=arch=compute_{x},code=sm_{x}" for x in architectures]
  flags = [*_FLAGS, *code]
  version = subprocess.run([compiler, "--version"], capture_output=True).stdout
  header = home / "include" / "non_abi" / "nvshmem_version.h"
  parts = [version, header.read_bytes(), repr(flags).encode()]
  parts += [str(home).encode(), jaxlib.__version__.encode()]
  parts += [source.read_bytes() for source in _SOURCES]
  digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
  includes = [f"-I{jax.ffi.include_dir()}", f"-I{home / 'include'}"]
  libraries = home / "lib"
  links = [f"-L{libraries}", "-lnvshmem_device", "-l:libnvshmem_host.so.3"]
  links.append(f"-Xlinker=-rpath,{libraries}")
  source = str(_SOURCES[0])
  return native_build.build(
    f"inter-node-{digest[:24]}.so",
    [compiler, *flags, "-shared", *includes, source, *links],
  )


def nvcc() -> str:
  """CUDA's compiler: of `$CUDA_HOME`, or on the path.

  Raises:
    native_build.NativeError: there is none.
  """
  home = os.environ.get("CUDA_HOME")
  name = str(pathlib.Path(home, "bin", "nvcc")) if home else "nvcc"
  if found := shutil.which(name):
    return found
  raise native_build.NativeError(
    f"got no {name}, expected CUDA's compiler; install the CUDA toolkit or set "
    "CUDA_HOME"
  )


def nvshmem_home() -> pathlib.Path:
  """NVSHMEM's folder: `$NVSHMEM_HOME`, a wheel here, or one of `make gpucc`.

  Raises:
    native_build.NativeError: there is none.
  """
  for home in _homes():
    if (home / "lib" / "libnvshmem_device.a").is_file():
      return home
  raise native_build.NativeError(
    "got no NVSHMEM, expected the package nvidia-nvshmem-cu13; install it or "
    "set NVSHMEM_HOME"
  )


def _homes() -> list[pathlib.Path]:
  if chosen := os.environ.get("NVSHMEM_HOME"):
    return [pathlib.Path(chosen)]
  found = []
  spec = importlib.util.find_spec("nvidia")
  if spec is not None:
    places = spec.submodule_search_locations or ()
    found += [pathlib.Path(place, "nvshmem") for place in places]
  if python := gpucc.find():
    root = pathlib.Path(python).absolute().parent.parent
    found += root.glob("lib/python*/site-packages/nvidia/nvshmem")
  return found
