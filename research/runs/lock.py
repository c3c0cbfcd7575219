"""One run per workdir."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from research.runs import errors


@contextlib.contextmanager
def hold(folder: pathlib.Path) -> Iterator[None]:
  """Holds a folder for this process until the block ends.

  The kernel owns the lock, so that of a process that died, even by SIGKILL, is
  free at once and no stale file has to be removed.

  Args:
    folder: the workdir; it gets a file `.lock` that names the holder.

  Raises:
    UserError: a living process holds it.
  """
  handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      holder = os.pread(handle, 200, 0).decode() or "another process"
      raise errors.UserError(
        f"workdir {folder}: got a folder in use by {holder}, expected a free "
        "one; wait for that run, end it, or choose another folder"
      ) from None
    os.ftruncate(handle, 0)
    os.pwrite(
      handle, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0
    )
    yield
  finally:
    os.close(handle)  # also frees the lock
