"""Errors that name the process that is missing, instead of a wait for it."""

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator

import jax

from research.cluster import store

_BEAT = 0.5  # seconds between two notes of a process
_ROLL_CALL = (
  3.0  # seconds without a note after which a process counts as silent
)
_TRANSPORT = re.compile(r"\bgloo\b", re.IGNORECASE)


class LostPeerError(RuntimeError):
  """A collective failed, or was given up, because of other processes."""


@contextlib.contextmanager
def guard(name: str, *, timeout: float | int) -> Iterator[None]:
  """Bounds the collectives inside, and says who is missing if they fail.

  All processes of the job enter the same guards in the same order, and wait for
  their results inside (`jax.block_until_ready`). From the first guard on a
  thread leaves a note twice a second (`research.cluster.store`) of where its
  process is, so nothing is sent on the way in or out. When the transport
  reports an error, the notes of three seconds tell who is silent (dead or
  stopped) and who lives but has not come here. When time runs out the process
  is in a call that cannot be interrupted: the error goes to stderr, and the
  process ends with code 1.

  What cannot be known: why a process is silent; who is missing once process 0,
  which keeps the notes, is; and who is at fault when all are here, as when they
  run different programs (`collectives.check_agreement`). JAX itself ends a
  process by signal when process 0 dies, and after 100 s without a heartbeat of
  any process.

  Args:
    name: of the operation, for the error.
    timeout: seconds, compilation included where the first call is inside.

  Raises:
    LostPeerError: the transport failed; names who is missing.
    ValueError: `timeout` is not positive.

  Example:
    >>> with guard("step 1", timeout=60):
    ...   total = jax.block_until_ready(jax.numpy.ones(3).sum())
  """
  if timeout <= 0:
    raise ValueError(f"timeout: got {timeout}, expected seconds above 0")
  if jax.process_count() == 1:
    yield
    return
  _notes.enter(name)
  watch = threading.Timer(timeout, _give_up, (name, timeout))
  watch.daemon = True
  watch.start()
  try:
    yield
  except (jax.errors.JaxRuntimeError, ValueError) as error:
    watch.cancel()
    if not _TRANSPORT.search(str(error)):
      raise
    said = str(error).splitlines()[0]
    message = f"{name}: {_missing()}; the transport said: {said}"
    store.linger(_ROLL_CALL)
    raise LostPeerError(message) from error
  finally:
    watch.cancel()
  _notes.leave()


class _Notes:
  """Where this process is, left for the others by a thread."""

  def __init__(self):
    self.count = 0  # guards entered
    self._where = ""
    self._thread: threading.Thread | None = None

  def enter(self, name: str) -> None:
    self.count += 1
    self._where = f"{self.count} in {name!r}"
    if self._thread is None:
      self._leave_note(0)
      self._thread = threading.Thread(target=self._run, daemon=True)
      self._thread.start()

  def leave(self) -> None:
    self._where = self._where.replace(" in ", " after ", 1)

  def _run(self) -> None:
    beat = 0
    with contextlib.suppress(store.UnreachableError):  # nobody could read them
      while True:
        beat += 1
        time.sleep(_BEAT)
        self._leave_note(beat)

  def _leave_note(self, beat: int) -> None:
    store.put(f"guard/{jax.process_index()}", f"{beat} {self._where}")


_notes = _Notes()


def _give_up(name: str, timeout: float | int) -> None:
  missing = _missing()
  sys.stdout.flush()
  sys.stderr.write(
    f"{LostPeerError.__name__}: {name}: not done in {timeout:g} s, {missing}\n"
  )
  sys.stderr.flush()
  store.linger(_ROLL_CALL)
  os._exit(1)


def _missing() -> str:
  """Says in words which processes are silent, and which are behind."""
  try:
    before = store.read("guard")
    time.sleep(_ROLL_CALL)
    after = store.read("guard")
  except store.UnreachableError as error:
    return str(error)
  silent, behind = [], []
  for i in range(jax.process_count()):
    note = after.get(str(i), "")
    if i == jax.process_index():
      continue
    if not note or note == before.get(str(i)):
      silent.append(i)
      continue
    _, count, where = note.split(" ", 2)
    if int(count) < _notes.count:
      behind.append(f"process {i} is {where}")
  parts = []
  if silent:
    parts.append(
      f"got no sign of life from processes {silent} for {_ROLL_CALL:g} s"
    )
  if behind:
    parts.append(f"got processes that have not come here: {', '.join(behind)}")
  if not parts:
    parts.append("got all processes alive and here")
  return (
    f"{'; '.join(parts)}; expected all {jax.process_count()} in this operation"
  )
