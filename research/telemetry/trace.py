"""Where time goes: spans of our own beside XLA's trace.

  with trace.profile(workdir / "profile", enabled=config.profile):
    with trace.span("decode", batch=8):
      ...

`profile` leaves XLA's trace, in which spans and `jax.named_scope` appear (see
`research.telemetry.xplane`), and `spans.perfetto.json.gz`, which
ui.perfetto.dev and chrome://tracing open.
"""

import contextlib
import gzip
import json
import pathlib
import threading
import time
import types
from collections.abc import Generator, Mapping, Sequence

import jax

SPANS_FILE = "spans.perfetto.json.gz"

_Args = Mapping[str, float | int | str]
_Event = dict[str, object]

_recording: "_Recording | None" = None


class span:
  """Marks the time inside a `with` block, in both traces.

  Costs a microsecond when nothing is being recorded. Spans nest, and each
  thread has its own row.

  Args:
    name: what happens inside.
    **args: shown with the slice: numbers, strings, whatever JSON holds.
  """

  __slots__ = ("_annotation", "_args", "_name", "_recording")

  def __init__(self, name: str, **args: float | int | str) -> None:
    self._name = name
    self._args = args
    self._annotation = jax.profiler.TraceAnnotation(name, **args)

  def __enter__(self) -> "span":
    self._recording = _recording
    if self._recording is not None:
      self._recording.add("B", self._name, self._args)
    self._annotation.__enter__()
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: types.TracebackType | None,
  ) -> None:
    self._annotation.__exit__(kind, error, traceback)
    if self._recording is not None:
      self._recording.add("E", self._name, {})


def life(kind: str, number: int, *phases: tuple[str, float, float]) -> None:
  """Marks the phases of something that many threads and steps had a part in.

  Args:
    kind: of thing, a group of rows in the viewer.
    number: which one, its row.
    *phases: name, begin and end of each, in seconds of `time.perf_counter`.
  """
  if _recording is not None:
    _recording.add_life(kind, number, phases)


class _Recording:
  """Begin and end events in the order of their happening, by thread.

  A span still open at the end has no end event; viewers draw it to the end.
  """

  def __init__(self) -> None:
    self._events: list[tuple[str, str, int, int, _Args]] = []
    self._lives: list[_Event] = []
    self._threads: dict[int, str] = {}
    # Wall-clock origin, as in XLA's trace, but steps that never run backwards.
    self._origin_ns = time.time_ns() - time.perf_counter_ns()

  def add(self, phase: str, name: str, args: _Args) -> None:
    thread = threading.get_ident()
    if thread not in self._threads:
      self._threads[thread] = threading.current_thread().name
    self._events.append((phase, name, thread, time.perf_counter_ns(), args))

  def add_life(
    self, kind: str, number: int, phases: Sequence[tuple[str, float, float]]
  ) -> None:
    shared = {"cat": kind, "id": number, "pid": jax.process_index(), "tid": 0}
    for name, *ends in phases:
      for mark, at_s in zip("be", ends, strict=True):
        at_us = (self._origin_ns + at_s * 1e9) / 1e3
        event: _Event = {"ph": mark, "name": name, "ts": at_us, **shared}
        self._lives.append(event)

  def write(self, path: pathlib.Path) -> None:
    process = jax.process_index()
    rows = {thread: i for i, thread in enumerate(self._threads)}
    names = [
      _metadata("process_name", process, 0, f"process {process}"),
      *(
        _metadata("thread_name", process, rows[thread], name)
        for thread, name in self._threads.items()
      ),
    ]
    events = [
      {
        "ph": phase,
        "name": name,
        "pid": process,
        "tid": rows[thread],
        "ts": (self._origin_ns + at_ns) / 1e3,
        "args": args,
      }
      for phase, name, thread, at_ns, args in list(self._events)
    ]
    events += self._lives
    with gzip.open(path, "wt") as file:
      json.dump({"traceEvents": names + events, "displayTimeUnit": "ms"}, file)


def _metadata(
  kind: str, process: int, thread: int, name: str
) -> dict[str, object]:
  return {
    "ph": "M",
    "name": kind,
    "pid": process,
    "tid": thread,
    "args": {"name": name},
  }


@contextlib.contextmanager
def profile(
  folder: pathlib.Path, *, enabled: bool = True
) -> Generator[None, None, None]:
  """Records the `with` block; the files are there also when it raises.

  Args:
    folder: created when missing; processes other than 0 use `process_<i>` in
      it.
    enabled: False makes this a no-op, so that a flag can be passed straight in.

  Raises:
    RuntimeError: a recording is already active.
  """
  global _recording
  if not enabled:
    yield
    return
  if _recording is not None:
    raise RuntimeError(
      "got a profile inside another one; expected one at a time; take the"
      " inner one out"
    )
  if process := jax.process_index():
    folder = folder / f"process_{process}"
  folder.mkdir(parents=True, exist_ok=True)
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0  # every Python call: too big, too slow
  jax.profiler.start_trace(folder, profiler_options=options)
  _recording = recording = _Recording()
  try:
    yield
  finally:
    _recording = None
    try:
      jax.profiler.stop_trace()
    finally:
      recording.write(folder / SPANS_FILE)
