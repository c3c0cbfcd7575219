"""Resident memory of this process.

The figure to state is the peak minus what the imports took:

  base = memory.rss_bytes()
  memory.reset_peak()
  ...
  extra = memory.peak_rss_bytes() - base
"""

import ctypes
import pathlib
import re

_M_MMAP_THRESHOLD = -3  # of malloc.h
_PROC = pathlib.Path("/proc/self")


def rss_bytes() -> int:
  """Returns the resident bytes of this process now.

  Raises:
    RuntimeError: the system has no /proc to read it from.

  Example:
    >>> 0 < rss_bytes() <= peak_rss_bytes()
    True
  """
  return _status_bytes("VmRSS")


def peak_rss_bytes() -> int:
  """Returns the most resident bytes since the start, or since `reset_peak`.

  Raises:
    RuntimeError: the system has no /proc to read it from.
  """
  return _status_bytes("VmHWM")


def reset_peak() -> bool:
  """Sets the peak to the present value.

  Returns:
    Whether the system allowed it; if not, `peak_rss_bytes` still counts from
    the start of the process.
  """
  try:
    (_PROC / "clear_refs").write_text("5")
  except OSError:
    return False
  return True


def release() -> bool:
  """Gives freed memory back that the C library keeps for later.

  After many arrays of a few kilobytes that is hundreds of megabytes, which no
  large array can use.

  Returns:
    Whether the library can do so (glibc can).
  """
  try:
    ctypes.CDLL(None).malloc_trim(0)
  except (AttributeError, OSError):
    return False
  return True


def return_large() -> bool:
  """Has the C library give every array of a megabyte or more back at once.

  glibc stops doing so after the first few, and then keeps holes between arrays.
  A choice for a whole process: make it where a command begins.

  Returns:
    Whether the library can do so (glibc can).
  """
  try:
    return ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20) == 1
  except (AttributeError, OSError):
    return False


def _status_bytes(name: str) -> int:
  try:
    status = (_PROC / "status").read_text()
  except OSError as error:
    raise RuntimeError(
      f"got no {_PROC}/status ({error}); expected Linux: resident memory is"
      " not measured elsewhere"
    ) from error
  match = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
  if match is None:
    raise RuntimeError(f"got no {name} in {_PROC}/status; expected one")
  return int(match[1]) * 1024
