"""Open MPI's collectives by algorithm (mpi4py, numpy), one rank of a job.

Started by mpirun with the Python of `.venv-peers`; imports nothing of this
codebase. The request is one JSON object on the command line; rank 0 answers
with one JSON object a line for each count. Every algorithm has a communicator
of its own, made while Open MPI's variables (MPI_T) ask for that algorithm, so
that all take turns within one job.
"""

import ctypes
import json
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
from mpi4py import MPI

_WORLD = MPI.COMM_WORLD
_TOP = 1000  # of the values: the sum of 16,000 ranks is exact in float32


class Variables:
  """Open MPI's variables, while it runs."""

  def __init__(self) -> None:
    """Asks for access to them."""
    self._library = ctypes.CDLL(MPI.__file__)
    self._call("init_thread", 0, ctypes.byref(ctypes.c_int()))

  def put(self, name: str, value: int) -> int:
    """Sets a variable and returns what it was before."""
    index, handle, count = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int()
    self._call("cvar_get_index", name.encode(), ctypes.byref(index))
    self._call(
      "cvar_handle_alloc",
      index,
      None,
      ctypes.byref(handle),
      ctypes.byref(count),
    )
    before = ctypes.c_int()
    self._call("cvar_read", handle, ctypes.byref(before))
    self._call("cvar_write", handle, ctypes.byref(ctypes.c_int(value)))
    self._call("cvar_handle_free", ctypes.byref(handle))
    return before.value

  def communicator(self, settings: Mapping[str, int]) -> MPI.Comm:
    """Returns a communicator of all ranks, made under these settings."""
    before = {name: self.put(name, value) for name, value in settings.items()}
    made = _WORLD.Dup()
    for name, value in before.items():
      self.put(name, value)
    return made

  def _call(self, name: str, *arguments: object) -> None:
    code = getattr(self._library, f"MPI_T_{name}")(*arguments)
    if code:
      raise RuntimeError(f"MPI_T_{name}: got code {code}, expected 0")


class Bench:
  """A collective on buffers of one length."""

  def __init__(self, request: Mapping, count: int) -> None:
    """Fills the buffers."""
    self._kind = request["collective"]
    self._op = {"sum": MPI.SUM, "max": MPI.MAX}[request["op"]]
    ranks, scatters = _WORLD.size, self._kind == "reduce_scatter"
    data = (
      np.random.default_rng(0)
      .integers(1, _TOP + 1, (ranks, count * (ranks if scatters else 1)))
      .astype(request["dtype"])
    )
    self._x = data[_WORLD.rank].copy()
    if self._kind == "all_gather":
      self._right = data.reshape(-1)
    else:
      right = data.max(0) if request["op"] == "max" else data.sum(0)
      self._right = right.reshape(ranks, -1)[_WORLD.rank] if scatters else right
    self._y = np.empty_like(self._right)

  def call(self, comm: MPI.Comm) -> Callable[[], None]:
    """Returns the collective on a communicator."""
    if self._kind == "all_gather":
      return lambda: comm.Allgather(self._x, self._y)
    run = {
      "all_reduce": comm.Allreduce,
      "reduce_scatter": comm.Reduce_scatter_block,
    }[self._kind]
    return lambda: run(self._x, self._y, self._op)

  def wrong(self, call: Callable[[], None]) -> int:
    """Calls, and counts the elements over all ranks that are not right."""
    self._y.fill(0)  # no right value is
    call()
    return _WORLD.allreduce(int((self._y != self._right).sum()))


def main() -> None:
  """Times all counts."""
  request = json.loads(sys.argv[1])
  variables = Variables()
  comms = {
    name: variables.communicator(settings)
    for name, settings in request["algorithms"].items()
  }
  for count in request["counts"]:
    bench = Bench(request, count)
    calls = {name: bench.call(comm) for name, comm in comms.items()}
    wrong = {name: bench.wrong(call) for name, call in calls.items()}
    seconds = _seconds(calls, request["warmup"], request["iters"])
    answer = {"count": count, "wrong": wrong, "seconds": seconds}
    if _WORLD.rank == 0:
      print(json.dumps(answer), flush=True)


def _seconds(
  calls: Mapping[str, Callable[[], None]], warmup: int, iters: int
) -> dict[str, list[float]]:
  """Seconds of each call on the slowest rank (at rank 0), in turns."""
  names = list(calls)
  own = np.zeros((len(names), iters))
  for i in range(warmup + iters):
    start = i % len(names)
    for name in names[start:] + names[:start]:
      _WORLD.Barrier()
      began = time.perf_counter()
      calls[name]()
      if i >= warmup:
        own[names.index(name), i - warmup] = time.perf_counter() - began
  slowest = np.empty_like(own)
  _WORLD.Reduce(own, slowest, MPI.MAX)
  return dict(zip(names, slowest.tolist(), strict=True))


if __name__ == "__main__":
  main()
