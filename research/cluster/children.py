"""Child processes that cannot outlive their parent.

Also run as a script, in the child: it asks the kernel for a signal at the death
of the parent and then becomes the command. A `preexec_fn` would be shorter, but
it makes `subprocess` fork, which may deadlock under JAX's threads.
"""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def dying_with_parent(command: Sequence[str]) -> list[str]:
  """Returns `command`, wrapped so that it ends with this process at the latest.

  It holds whatever ends this process, SIGKILL included, and costs one start of
  a bare Python. It covers the child itself: its own children must see to
  themselves. On systems other than Linux the command comes back as it is.
  Start it from a thread that lives as long as the process: that is what the
  kernel watches.

  Raises:
    FileNotFoundError: there is no such program.

  Example:
    >>> import subprocess
    >>> subprocess.run(dying_with_parent(["true"])).returncode
    0
  """
  if shutil.which(command[0]) is None:
    raise FileNotFoundError(
      f"got the program {command[0]!r}; expected one that is on PATH and"
      " executable; check the spelling or give its path"
    )
  if not sys.platform.startswith("linux"):
    return list(command)
  # Isolated and without site: 10 ms, and nothing but the standard library.
  python = [sys.executable, "-I", "-S", __file__]
  return [*python, str(os.getpid()), *command]


def _become(parent: int, command: list[str]) -> None:
  prctl = ctypes.CDLL(None, use_errno=True).prctl
  if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
  if os.getppid() == parent:  # else it has died before the line above
    os.execvp(command[0], command)


if __name__ == "__main__":
  _become(int(sys.argv[1]), sys.argv[2:])
