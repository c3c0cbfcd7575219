"""The calls of `native.cc`, compiled once a machine and kept in the cache."""

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess

import jax
import jaxlib
from absl import logging

from kernels_pallas import native_build

_SOURCE = pathlib.Path(__file__).with_name("native.cc")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp-simd", "-fPIC")
_X86_FLAGS = ("-mprefer-vector-width=512",)
_COMPILERS = ("c++", "g++", "clang++")
_CALLS = ("scores_float32", "scores_bfloat16", "values_float32") + (
  "values_bfloat16",
)


@functools.cache
def targets() -> dict[str, str] | None:
  """Returns the registered name of each call.

  Returns:
    Names for `jax.ffi.ffi_call` on the CPU, or `None` where there is no C++
    compiler or it fails; one line in the log says which.
  """
  try:
    digest = _digest(compiler := _compiler())
    path = _build(compiler, digest)
    library = ctypes.CDLL(str(path))
  except (native_build.NativeError, OSError) as error:
    logging.warning("threshold_attention reads whole pages on CPU: %s", error)
    return None
  logging.info("threshold_attention skips value rows on CPU: %s", path)
  names = {}
  for call in _CALLS:
    names[call] = f"dectet_threshold_{call}_{digest[:12]}"
    handler = jax.ffi.pycapsule(getattr(library, call))
    jax.ffi.register_ffi_target(names[call], handler, platform="cpu")
  return names


def _compiler() -> str:
  """The C++ compiler: `$CXX`, or the first one found."""
  chosen = os.environ.get("CXX")
  for name in (chosen,) if chosen else _COMPILERS:
    if found := shutil.which(name):
      return found
  raise native_build.NativeError(
    f"got no C++ compiler, expected {chosen or ' or '.join(_COMPILERS)}; "
    "install one or set CXX"
  )


def _flags() -> tuple[str, ...]:
  """The compiler's flags on this kind of processor."""
  x86 = platform.machine() in ("x86_64", "AMD64")
  return _FLAGS + (_X86_FLAGS if x86 else ())


def _digest(compiler: str) -> str:
  """Names a build by all that goes into it, this processor included."""
  version = subprocess.run([compiler, "--version"], capture_output=True)
  parts = [_SOURCE.read_bytes(), version.stdout, repr(_flags()).encode()]
  parts += [jaxlib.__version__.encode(), _processor().encode()]
  return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _processor() -> str:
  """What `-march=native` depends on."""
  info = pathlib.Path("/proc/cpuinfo")
  if not info.exists():
    return platform.platform() + platform.processor()
  lines = info.read_text().splitlines()
  kinds = ("model name", "flags", "Features")
  return "\n".join(sorted({x for x in lines if x.startswith(kinds)}))


def _build(compiler: str, digest: str) -> pathlib.Path:
  """Returns the compiled library."""
  include = f"-I{jax.ffi.include_dir()}"
  command = [compiler, *_flags(), "-shared", include, str(_SOURCE)]
  return native_build.build(f"threshold-{digest[:24]}.so", command)
