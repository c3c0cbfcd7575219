"""Join a multi-process job, whoever started it.

A binary calls `setup()` before anything else that touches JAX. Started by
`research.cluster.launch` it finds its coordinates in the environment; under
Slurm, Open MPI or Kubernetes JAX finds them, once the binary asks for it; alone
nothing happens.
"""

import atexit
import os
import sys
import types
from typing import NoReturn

COORDINATOR = "DECTET_COORDINATOR"
NUM_PROCESSES = "DECTET_NUM_PROCESSES"
PROCESS_ID = "DECTET_PROCESS_ID"


def setup(*, detect_cluster: bool = False) -> None:
  """Initialises `jax.distributed` when this process is one of several.

  Afterwards an exception that nobody catches, and `sys.exit` with an error, end
  the process at once. Without that, JAX's exit handler would wait five minutes
  for the other processes, which themselves wait for this one in a collective.

  Args:
    detect_cluster: let JAX read the job from Slurm, Open MPI or Kubernetes.
      Off by default: a single process in an interactive allocation sees the
      same variables and would wait for peers that never come.

  Raises:
    RuntimeError: the coordinates are incomplete, or no cluster was found.
  """
  coordinates = _coordinates(os.environ)
  if coordinates is None and not detect_cluster:
    return
  import jax  # here, so that importing this package stays light

  if coordinates is not None:
    coordinator, num_processes, process_id = coordinates
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      cluster_detection_method="deactivate",
      coordinator_bind_address=coordinator,
    )
  else:
    try:
      jax.distributed.initialize()
    except ValueError as error:
      raise RuntimeError(
        f"got no cluster to join ({error}); expected Slurm, Open MPI or"
        " Kubernetes to have started this process; on one machine use"
        " python -m research.cluster.launch -n N -- CMD"
      ) from error
  if jax.config.jax_platforms == "cpu":  # pyrefly: ignore[missing-attribute]
    # Read back from the cache, a program runs collectives that do not depend on
    # one another in any order, and messages of two processes then mix.
    jax.config.update("jax_enable_compilation_cache", False)
  _end_without_waiting()


def _coordinates(
  environ: os._Environ[str] | dict[str, str],
) -> tuple[str, int, int] | None:
  """Returns (coordinator, number of processes, own number), None when alone."""
  names = (COORDINATOR, NUM_PROCESSES, PROCESS_ID)
  missing = [name for name in names if not environ.get(name)]
  if len(missing) == len(names):
    return None
  if missing:
    raise RuntimeError(
      f"got a multi-process job without {', '.join(missing)}; expected all of"
      f" {', '.join(names)}; start it with python -m research.cluster.launch"
    )
  return (
    environ[COORDINATOR],
    int(environ[NUM_PROCESSES]),
    int(environ[PROCESS_ID]),
  )


def _end_without_waiting() -> None:
  """Makes a failing process skip JAX's exit handler; a good one still runs it.

  An exit handler cannot see the exit code, so `sys.exit` notes it. Handlers run
  last in, first out: this one comes before JAX's and before those of earlier
  imports, which a failing process skips.
  """
  codes: list[str | int | None] = []

  def noted_exit(status: str | int | None = None, /) -> NoReturn:
    codes.append(status)
    raise SystemExit(status)

  def at_exit() -> None:
    if codes and codes[-1]:
      _flush_and_end(codes[-1] if isinstance(codes[-1], int) else 1)

  def on_exception(
    kind: type[BaseException],
    error: BaseException,
    traceback: types.TracebackType | None,
  ) -> None:
    sys.__excepthook__(kind, error, traceback)
    _flush_and_end(1)

  sys.exit = noted_exit
  sys.excepthook = on_exception
  atexit.register(at_exit)


def _flush_and_end(code: int) -> NoReturn:
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
