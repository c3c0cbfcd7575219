"""Linux namespaces: leave the machine's, make own ones, enter those of others.

Also run as a script, in the child: it enters the given namespaces and then
becomes the command. It needs nothing but the standard library and a kernel.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence

MOUNT = 0x00020000
HOSTNAME = 0x04000000
USER = 0x10000000
NET = 0x40000000

_MS_BIND = 1 << 12
_MS_REC = 1 << 14
_MS_PRIVATE = 1 << 18


def unshare(kinds: int) -> None:
  """Gives this process new namespaces of `kinds`, a sum of the constants.

  Raises:
    PermissionError: it may not have them.
    OSError: the kernel does not know them, or has reached its limit.
  """
  _call("unshare", kinds)


def unshare_user(inside: tuple[int, int], outside: tuple[int, int]) -> None:
  """Moves this process to a new user namespace that knows one user and group.

  Args:
    inside: the (user, group) it is to be there.
    outside: the (user, group) it is here.

  Raises:
    OSError: it may not, or the kernel has reached its limit.
  """
  unshare(USER)
  _write("/proc/self/setgroups", "deny")
  _write("/proc/self/uid_map", f"{inside[0]} {outside[0]} 1")
  _write("/proc/self/gid_map", f"{inside[1]} {outside[1]} 1")


def hide_mounts() -> None:
  """Keeps what this process mounts from showing in other namespaces."""
  _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def bind(source: str, target: str) -> None:
  """Shows the file `source` at the path of the file `target`."""
  _call("mount", source.encode(), target.encode(), None, _MS_BIND, None)


def empty(folder: str) -> None:
  """Shows an empty folder in memory at `folder`, for all to write to."""
  _call("mount", b"none", folder.encode(), b"tmpfs", 0, b"mode=1777")


def entering(paths: Sequence[str], command: Sequence[str]) -> list[str]:
  """Returns `command`, wrapped so that it runs inside of other namespaces.

  It keeps its user, group and working directory.

  Args:
    paths: files of the namespaces (see `man 7 namespaces`); the user
      namespace, if there is one, comes first.
    command: program and arguments.
  """
  python = [sys.executable, "-I", "-S", __file__]
  return [*python, *paths, "--", *command]


def kill_inside(nets: Sequence[str]) -> None:
  """Kills all processes of network namespaces, until there are none.

  Args:
    nets: names of the namespaces, as `readlink /proc/self/ns/net` shows them.
  """
  for _ in range(100):
    left = [pid for pid in _pids() if _net(pid) in nets]
    if not left:
      return
    for pid in left:
      with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.02)


def _pids() -> list[int]:
  return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _net(pid: int) -> str | None:
  try:
    return os.readlink(f"/proc/{pid}/ns/net")
  except OSError:  # it has ended, is a zombie, or is not ours to look at
    return None


def _enter(paths: Sequence[str]) -> None:
  user = (os.getuid(), os.getgid())
  folder = os.getcwd()
  for path in paths:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _call("setns", file, 0)
  if os.getuid() != user[0]:  # in a user namespace that calls the user root
    unshare_user(user, (os.getuid(), os.getgid()))
  os.chdir(folder)  # entering a mount namespace leaves us in its root


def _call(name: str, *arguments: object) -> None:
  if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
    code = ctypes.get_errno()
    raise OSError(code, f"{name}: {os.strerror(code)}")


def _write(path: str, text: str) -> None:
  with open(path, "w") as file:
    file.write(text)


if __name__ == "__main__":
  split = sys.argv.index("--")
  _enter(sys.argv[1:split])
  os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])
