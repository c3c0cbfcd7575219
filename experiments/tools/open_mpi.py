"""Open MPI on emulated links: algorithms by name, and how to start a job."""

import functools
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from research.cluster import emulation, network
from research.runs import errors

#: What Open MPI takes if nobody asks: over several nodes of several ranks its
#: hierarchical component `han`, whatever the size.
DEFAULT = "default"
#: What its component `tuned` takes for the size and the number of ranks.
TUNED = "tuned"

#: Bytes of a segment of `segmented_ring`. Open MPI's own choice is none, which
#: makes it a plain ring; a vector of less than a segment a rank stays one.
SEGMENT = 1 << 16

_WORKER = pathlib.Path(__file__).parent / "peers" / "open_mpi_worker.py"
_OPS = ("sum", "max")
_DTYPES = ("float32", "float64", "int32")
_SILENCE = 600.0  # seconds between two lines of a job that runs
_DAEMON = "start-daemon"

# Open MPI's name of each collective, and its numbers of the algorithms.
_COLLECTIVES = {
  "all_reduce": "allreduce",
  "all_gather": "allgather",
  "reduce_scatter": "reduce_scatter_block",
}
_ALGORITHMS = {
  "all_reduce": {
    "basic_linear": 1,
    "nonoverlapping": 2,
    "recursive_doubling": 3,
    "ring": 4,
    "segmented_ring": 5,
    "rabenseifner": 6,
  },
  "all_gather": {
    "linear": 1,
    "bruck": 2,
    "recursive_doubling": 3,
    "ring": 4,
    "neighbor": 5,
    "sparbit": 7,
  },
  "reduce_scatter": {
    "basic_linear": 1,
    "recursive_doubling": 2,
    "recursive_halving": 3,
    "butterfly": 4,
  },
}


class MissingError(errors.UserError):
  """There is no Open MPI, or none that runs."""


def names(collective: str) -> tuple[str, ...]:
  """Returns the algorithms of a collective.

  Args:
    collective: `all_reduce`, `all_gather` or `reduce_scatter`.

  Example:
    >>> names("reduce_scatter")[-3:]
    ('butterfly', 'tuned', 'default')
  """
  return (*_ALGORITHMS[collective], TUNED, DEFAULT)


def settings(collective: str, algorithm: str) -> dict[str, int]:
  """Returns the variables of Open MPI that make it take an algorithm.

  Args:
    collective: as for `names`.
    algorithm: one of `names`.

  Raises:
    UserError: there is no such algorithm.

  Example:
    >>> settings("all_gather", "bruck")["coll_tuned_allgather_algorithm"]
    2
    >>> settings("all_gather", "default")
    {}
  """
  if algorithm == DEFAULT:
    return {}
  tuned = {"coll_han_priority": 0}  # below that of `tuned`
  if algorithm == TUNED:
    return tuned
  number = _ALGORITHMS[collective].get(algorithm)
  if number is None:
    raise errors.UserError(
      f"got the algorithm {algorithm!r}; expected one of Open MPI's for"
      f" {collective}: {', '.join(names(collective))}"
    )
  variable = f"coll_tuned_{_COLLECTIVES[collective]}_algorithm"
  return tuned | {
    "coll_tuned_use_dynamic_rules": 1,
    variable: number,
    f"{variable}_segmentsize": SEGMENT * algorithm.startswith("segmented"),
  }


def check(
  collective: str, algorithms: Sequence[str], *, dtype: str, op: str
) -> None:
  """Refuses what MPI, or the worker, does not have.

  Args:
    collective: as for `names`.
    algorithms: some of `names`.
    dtype: of the elements.
    op: what reduces.

  Raises:
    UserError: there is no such thing.
  """
  for algorithm in algorithms:
    settings(collective, algorithm)
  if op not in _OPS:
    raise errors.UserError(
      f"got the op {op!r}, expected one that MPI has: {', '.join(_OPS)}"
    )
  if dtype not in _DTYPES:
    raise errors.UserError(
      f"got the dtype {dtype!r}, expected one that numpy has:"
      f" {', '.join(_DTYPES)}"
    )


def find(python: str) -> tuple[pathlib.Path, str]:
  """Returns the mpirun that belongs to a Python, and its version.

  Args:
    python: that of `.venv-peers`.

  Raises:
    MissingError: there is none.
  """
  mpirun = pathlib.Path(python).absolute().with_name("mpirun")
  try:
    said = subprocess.check_output([mpirun, "--version"], text=True)
  except (OSError, subprocess.CalledProcessError):
    raise MissingError(
      f"got no Open MPI beside {python}; expected openmpi and mpi4py of"
      " requirements-peers.txt there; run `make peers`"
    ) from None
  return mpirun, said.splitlines()[0].split()[-1]


def answers(
  links: emulation.Links,
  python: str,
  request: Mapping[str, Any],
  *,
  eager: int | None = None,
) -> Iterator[dict[str, Any]]:
  """Runs a job of the worker on all nodes and yields rank 0's answers.

  Rank i runs on node i // per_node, as elsewhere. Messages between nodes go by
  TCP, those within a node through its shared memory. The daemons of the other
  nodes are started from here, since a process on a node cannot reach another
  node otherwise: mpirun is given `echo` as its remote shell, and what that
  prints is run.

  Args:
    links: where to run it.
    python: that of `.venv-peers`.
    request: of `open_mpi_worker`.
    eager: bytes of the largest message that is sent without asking the receiver
      first, which costs a round trip; None leaves Open MPI's own, 64 KiB.

  Raises:
    UserError: the job failed.
  """
  mpirun, _ = find(python)
  command = [
    *_mpirun(mpirun, links.network, eager),
    # A rank that fails then ends the job.
    *(python, "-m", "mpi4py", str(_WORKER), json.dumps(request)),
  ]
  said = tempfile.TemporaryFile("w+")
  start = functools.partial(
    subprocess.Popen,
    env=_environment(),
    stdin=subprocess.DEVNULL,
    stderr=said,
    text=True,
  )
  job = start(links.inside(0, command), stdout=subprocess.PIPE)
  daemons = []
  try:
    for line in _lines(job):
      if line.startswith("{"):
        yield json.loads(line)
      elif line.startswith(f"{_DAEMON} "):
        node, script = _daemon(line)
        daemons.append(start(links.inside(node, ["sh", "-c", script])))
    if job.wait() != 0:
      said.seek(0)
      raise errors.UserError(
        f"got code {job.returncode} from mpirun, expected 0; it said:"
        f" {textwrap.shorten(said.read().replace('---', ''), 500)}"
      )
  finally:
    for process in (job, *daemons):
      process.kill()
      process.wait()
    assert job.stdout is not None
    job.stdout.close()
    said.close()


def _mpirun(
  mpirun: pathlib.Path, wanted: network.Network, eager: int | None
) -> list[str]:
  hosts = [f"node{i}:{wanted.per_node}" for i in range(wanted.nodes)]
  launching = {
    "plm_ssh_agent": f"{shutil.which('echo')} {_DAEMON}",
    "plm_ssh_no_tree_spawn": "1",  # all are started by mpirun itself
  }
  messages = {
    "pml": "ob1",
    "btl": "self,sm,tcp",
    "btl_tcp_if_include": "fabric",
    "mpi_yield_when_idle": "1",  # there are more ranks than cores
  }
  if eager is not None:
    limits = {"eager_limit": eager, "rndv_eager_limit": eager}
    limits["max_send_size"] = max(eager, 1 << 17)  # 128 KiB is its own choice
    messages |= {f"btl_tcp_{name}": str(n) for name, n in limits.items()}
  return [
    *(str(mpirun), "-n", str(wanted.num_processes), "--host", ",".join(hosts)),
    *("--map-by", "slot", "--bind-to", "none", "--leave-session-attached"),
    *itertools.chain(*(("--prtemca", *pair) for pair in launching.items())),
    *itertools.chain(*(("--mca", *pair) for pair in messages.items())),
  ]


def _environment() -> dict[str, str]:
  allowed = ("", "_CONFIRM")
  return os.environ | {
    # Each network's own, which goes with it: no files are left behind.
    "TMPDIR": "/dev/shm",
    "OMP_NUM_THREADS": "1",
    # Root of the network, or of a container, is no danger to anything.
    **{f"PRTE_ALLOW_RUN_AS_ROOT{suffix}": "1" for suffix in allowed},
    **{f"OMPI_ALLOW_RUN_AS_ROOT{suffix}": "1" for suffix in allowed},
  }


def _daemon(line: str) -> tuple[int, str]:
  """Reads what the remote shell was told: a node, and a line for its shell.

  Example:
    >>> _daemon("start-daemon node3 A=1;export A;prted --x 'y'")
    (3, "A=1;export A;prted --x 'y'")
  """
  _, host, command = line.rstrip("\n").split(" ", 2)
  return int(host.removeprefix("node")), command


def _lines(job: subprocess.Popen[str]) -> Iterator[str]:
  """Yields lines, and kills a job that has been silent for too long."""
  assert job.stdout is not None
  while True:
    watch = threading.Timer(_SILENCE, job.kill)
    watch.daemon = True
    watch.start()
    line = job.stdout.readline()
    watch.cancel()
    if not line:
      return
    yield line
