"""A rival that lives in another process, such as another environment's Python.

The worker reads one JSON object per line from its standard input and answers
each with one JSON object per line, in which "seconds" is the time it measured
itself; whatever else it prints there is skipped:

  for line in sys.stdin:
    request = json.loads(line)
    start = time.perf_counter()
    ...
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
"""

import contextlib
import dataclasses
import json
import queue
import subprocess
import tempfile
import threading
import types
from collections.abc import Mapping, Sequence
from typing import IO, Any

from research.cluster import children


class PeerUnavailableError(RuntimeError):
  """The peer could not start, died, or answered nonsense."""


@dataclasses.dataclass(frozen=True)
class Reply:
  """What a peer answered.

  Attributes:
    seconds: the time that the peer measured; pipes and JSON not included.
    values: the whole answer.
  """

  seconds: float
  values: Mapping[str, Any]


class PeerProcess:
  r"""A worker process that starts with the first call and is killed at the end.

  Once it has failed it stays failed: every later call raises the same error.

  Args:
    argv: the command of the worker.
    timeout: seconds to wait for each answer; the first one includes imports.

  Example:
    >>> script = 'while read line; do echo "{\\"seconds\\": 0.5}"; done'
    >>> with PeerProcess(["sh", "-c", script]) as peer:
    ...   peer.call({"tokens": 8}).seconds
    0.5
  """

  def __init__(
    self, argv: Sequence[str], *, timeout: float | int = 300
  ) -> None:
    self._argv = list(argv)
    self._timeout = timeout
    self._process: subprocess.Popen[str] | None = None
    self._errors: IO[str] | None = None
    self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    self._failure: PeerUnavailableError | None = None

  def __enter__(self) -> "PeerProcess":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: types.TracebackType | None,
  ) -> None:
    self.close()

  def call(self, request: Mapping[str, Any]) -> Reply:
    """Sends one request and waits for its answer.

    Raises:
      PeerUnavailableError: the peer cannot answer, in one line that says why.
    """
    if self._failure is not None:
      raise self._failure
    process = self._process or self._start()
    assert process.stdin is not None
    try:
      process.stdin.write(json.dumps(request) + "\n")
      process.stdin.flush()
    except OSError:
      raise self._fail(self._last_words()) from None
    return self._answer()

  def close(self) -> None:
    """Kills the worker; a second call is free."""
    if self._process is not None and self._process.stdin is not None:
      self._process.kill()
      self._process.wait()
      with contextlib.suppress(OSError):  # a request that was never read
        self._process.stdin.close()
    if self._errors is not None:
      self._errors.close()
    self._failure = self._failure or PeerUnavailableError("peer is closed")

  def _start(self) -> subprocess.Popen[str]:
    self._errors = tempfile.TemporaryFile("w+")
    try:
      self._process = process = subprocess.Popen(
        children.dying_with_parent(self._argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._errors,
        text=True,
      )
    except OSError as error:
      raise self._fail(f"did not start: {error}") from error
    threading.Thread(target=self._listen, args=(process,), daemon=True).start()
    return process

  def _listen(self, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
      for line in process.stdout:
        if line.startswith("{"):
          self._answers.put(line)
    self._answers.put(None)

  def _answer(self) -> Reply:
    try:
      line = self._answers.get(timeout=self._timeout)
    except queue.Empty:
      raise self._fail(f"no answer within {self._timeout:g} s") from None
    if line is None:
      raise self._fail(self._last_words())
    try:
      values = json.loads(line)
      seconds = float(values["seconds"])
      if seconds >= 0:
        return Reply(seconds, values)
    except (ValueError, KeyError, TypeError):
      pass
    raise self._fail(
      f"got the answer {line.strip()[:80]!r}; expected a JSON object with"
      ' "seconds"'
    )

  def _last_words(self) -> str:
    assert self._process is not None
    assert self._errors is not None
    try:
      code = self._process.wait(timeout=5.0)
    except subprocess.TimeoutExpired:  # it closed its output and lives on
      self._process.kill()
      code = self._process.wait()
    self._errors.seek(0)
    lines = [line.strip() for line in self._errors if line.strip()]
    return f"ended with code {code}: {lines[-1] if lines else '(no message)'}"

  def _fail(self, reason: str) -> PeerUnavailableError:
    if self._process is not None:
      self._process.kill()
    name = " ".join(self._argv[:2])
    self._failure = PeerUnavailableError(f"peer {name} {reason}")
    return self._failure
