"""Notes that the processes of a job leave for one another.

They lie in the key-value store of `jax.distributed`, which process 0 keeps, and
need no collective: they work while one hangs. Every call is limited in time,
because a store whose process is stopped does not answer.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax._src import distributed

_ROOT = "dectet/"
_POLL = 0.05  # seconds
_PATIENCE = 5.0  # for one answer of the store

T = TypeVar("T")


class UnreachableError(Exception):
  """The store does not answer: process 0 is dead, stopped or cut off."""

  def __init__(self, reason: str):
    super().__init__(
      f"got no answer from process 0, which keeps the job's notes ({reason});"
      " expected it to run; see its own last lines"
    )


def put(key: str, value: str) -> None:
  """Leaves a note, in place of an older one of the same key.

  Raises:
    UnreachableError: the store does not answer.
  """
  client = _client()
  _limited(
    lambda: client.key_value_set(_ROOT + key, value, allow_overwrite=True)
  )


def read(folder: str) -> dict[str, str]:
  """Returns the notes whose keys are `folder/NAME`, by name.

  Raises:
    UnreachableError: the store does not answer.
  """
  prefix = f"{_ROOT}{folder}/"
  client = _client()
  rows = _limited(lambda: client.key_value_dir_get(prefix))
  names = ((key.removeprefix(prefix), value) for key, value in rows)
  return {name: value for name, value in names if "/" not in name}


def exchange(
  key: str, value: str, *, timeout: float | int
) -> tuple[dict[int, str], list[int]]:
  """Leaves this process's note and waits for those of all others.

  Args:
    key: the same on all processes, and used once.
    value: what this process has to say.
    timeout: seconds to wait.

  Returns:
    What each process said, and the processes that said nothing in time.

  Raises:
    UnreachableError: the store does not answer.
  """
  put(f"{key}/{jax.process_index()}", value)
  deadline = time.monotonic() + timeout
  while True:
    said = {int(name): text for name, text in read(key).items()}
    missing = [i for i in range(jax.process_count()) if i not in said]
    if not missing or time.monotonic() > deadline:
      return said, missing
    time.sleep(_POLL)


def linger(seconds: float) -> None:
  """Lets the others read: with process 0, which waits here, the notes end."""
  if jax.process_index() == 0:
    time.sleep(seconds)


def _client() -> Any:
  client = distributed.global_state.client
  if client is None:
    raise UnreachableError("this process has joined no job")
  return client


def _limited(call: Callable[[], T]) -> T:
  done: list[T] = []
  errors: list[Exception] = []

  def run() -> None:
    try:
      done.append(call())
    except Exception as error:  # whatever the client raises: it is no answer
      errors.append(error)

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  thread.join(_PATIENCE)
  if done:
    return done[0]
  reason = str(errors[0]).splitlines()[0] if errors else f"in {_PATIENCE:g} s"
  raise UnreachableError(reason)
