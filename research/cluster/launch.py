"""Starts one command as several local processes that form a JAX job.

  python -m research.cluster.launch -n 4 --devices=2 -- python -m my.binary ...

  python -m research.cluster.launch --network=4x2,alpha=1ms,bw=1Gb -- CMD ...

The second form runs 4 x 2 processes on four emulated nodes, the links between
them as slow as asked for (`research.cluster.emulation`). Where links cannot be
emulated it says so in one line and ends with code 69, where they are not as
asked for, with 75; in neither case has the command run.

Each process finds its coordinates in the environment, where
`research.cluster.setup` reads them. Every line of output starts with the number
of its process. SIGINT and SIGTERM go on to all processes. The first process to
fail ends the job within seconds, and its code is the launcher's.
"""

import argparse
import collections
import dataclasses
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from research.cluster import children, distributed, emulation, network

#: Exit code where links cannot be emulated: a reason to skip, not to fail.
UNAVAILABLE = os.EX_UNAVAILABLE
#: Exit code where emulated links are not as asked for, as on a busy machine.
OFF_TARGET = os.EX_TEMPFAIL

_COORDINATOR_PORT = 8476  # on an emulated node, where every port is free
_GRACE_SECONDS = 3.0  # between SIGTERM and SIGKILL


@dataclasses.dataclass
class _Worker:
  process: subprocess.Popen[bytes]
  reader: threading.Thread
  tail: collections.deque[str]  # the last line that is not blank


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit code of the job."""
  args = _parse(sys.argv[1:] if argv is None else argv)
  if args.network is None:
    return run(args.command, num_processes=args.n, devices=args.devices)
  return on_links(
    args.network,
    lambda links: run(
      args.command,
      num_processes=args.network.num_processes,
      devices=args.devices,
      links=links,
    ),
  )


def on_links(
  wanted: network.Network, job: Callable[[emulation.Links], int]
) -> int:
  """Brings up a network, says what was measured on it, and runs a job there.

  Args:
    wanted: the network.
    job: gets the links and returns an exit code.

  Returns:
    That code, or `UNAVAILABLE` or `OFF_TARGET`; then the job has not run, and
    one line says why.
  """
  try:
    with emulation.start(wanted) as links:
      _say(f"network {wanted}: {links.check() or 'one node, no link'}")
      return job(links)
  except emulation.UnavailableError as error:
    _say(
      f"skipped, links cannot be emulated here: got {error}; expected Linux"
      " with ip (iproute2) and /dev/net/tun, and root or a kernel that allows"
      " user namespaces"
    )
    return UNAVAILABLE
  except emulation.OffTargetError as error:
    _say(str(error))
    return OFF_TARGET


def run(
  command: Sequence[str],
  *,
  num_processes: int,
  devices: int | None = None,
  links: emulation.Links | None = None,
) -> int:
  """Runs `command` as one job and waits for its end.

  Must be called from the main thread, because it handles signals.

  Args:
    command: program and arguments, the same for every process.
    num_processes: how many processes.
    devices: CPU devices per process; None leaves the choice of devices to JAX.
    links: the emulated links to run it on, for as many processes as it has.

  Returns:
    0, or the code of the first process that failed (128 + the number of the
    signal, had one ended it), or 70 when the emulated links broke.
  """
  shared = _shared_environment(num_processes, devices, links)
  workers: list[_Worker] = []
  ended: queue.SimpleQueue[int] = queue.SimpleQueue()
  stopped: list[int] = []

  def forward(number: int, _frame: object) -> None:
    stopped.append(number)
    _signal(workers, number)

  before = {
    number: signal.signal(number, forward)
    for number in (signal.SIGINT, signal.SIGTERM)
  }
  try:
    for i in range(num_processes):
      workers.append(_start(i, command, shared, links))
      threading.Thread(
        target=_note_end, args=(i, workers[i].process, ended), daemon=True
      ).start()
    return _wait(workers, ended, stopped, links)
  except FileNotFoundError as error:
    _say(str(error))
    return 127
  finally:
    _end(workers)
    for number, handler in before.items():
      signal.signal(number, handler)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m research.cluster.launch",
    description="Runs a command as several local processes of one JAX job.",
    usage="%(prog)s {-n N | --network=NETWORK} [--devices K] -- CMD...",
  )
  size = parser.add_mutually_exclusive_group(required=True)
  size.add_argument("-n", type=_positive, metavar="N", help="processes")
  size.add_argument(
    "--network",
    type=_network,
    metavar="NODESxPROCESSES,alpha=TIME,bw=RATE",
    help="emulated nodes, their processes, latency and bandwidth",
  )
  parser.add_argument(
    "--devices", type=_positive, metavar="K", help="CPU devices per process"
  )
  parser.add_argument("command", nargs="*", metavar="CMD")
  args = parser.parse_args(argv)
  if not args.command:
    parser.error(
      "got no command; expected one after --, such as -- python x.py"
    )
  return args


def _positive(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(
      f"got {text!r}; expected a whole number of at least 1"
    )
  return int(text)


def _network(text: str) -> network.Network:
  try:
    return network.parse(text)
  except ValueError as error:
    raise argparse.ArgumentTypeError(str(error)) from error


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def _shared_environment(
  num_processes: int, devices: int | None, links: emulation.Links | None
) -> dict[str, str]:
  if links is None:
    coordinator = f"127.0.0.1:{_free_port()}"
  else:
    coordinator = f"{network.address(0)}:{_COORDINATOR_PORT}"
  env = os.environ | {
    distributed.COORDINATOR: coordinator,
    distributed.NUM_PROCESSES: str(num_processes),
    network.VARIABLE: "" if links is None else str(links.network),
    "PYTHONUNBUFFERED": "1",
    # It would swallow SIGTERM, which here means: end.
    "JAX_ENABLE_PREEMPTION_SERVICE": "false",
  }
  if devices is not None:
    env |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
  return env


def _start(
  i: int,
  command: Sequence[str],
  shared: Mapping[str, str],
  links: emulation.Links | None,
) -> _Worker:
  command = children.dying_with_parent(command)
  if links is not None:
    command = links.inside(links.network.node(i), command)
  process = subprocess.Popen(
    command,
    env={**shared, distributed.PROCESS_ID: str(i)},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    start_new_session=True,  # signals reach it once, through us
  )
  tail: collections.deque[str] = collections.deque(maxlen=1)
  reader = threading.Thread(
    target=_relay, args=(i, process, tail), name=f"relay-{i}", daemon=True
  )
  reader.start()
  return _Worker(process, reader, tail)


def _relay(
  i: int, process: subprocess.Popen[bytes], tail: collections.deque[str]
) -> None:
  assert process.stdout is not None
  with process.stdout:
    for raw in process.stdout:
      line = raw.decode(errors="replace").rstrip("\r\n")
      if line.strip():
        tail.append(line.strip())
      # One write a line: lines of two processes never mix.
      sys.stdout.write(f"[{i}] {line}\n")
      sys.stdout.flush()


def _note_end(
  i: int, process: subprocess.Popen[bytes], ended: queue.SimpleQueue[int]
) -> None:
  process.wait()
  ended.put(i)


def _wait(
  workers: Sequence[_Worker],
  ended: queue.SimpleQueue[int],
  stopped: Sequence[int],
  links: emulation.Links | None,
) -> int:
  """Returns when all have ended well, one has failed, or we were told to.

  Ends are taken in the order of their happening: the first failure is the
  cause, and what follows it within milliseconds is not.
  """
  running = len(workers)
  deadline = float("inf")
  while running and time.monotonic() < deadline:
    if stopped:
      deadline = min(deadline, time.monotonic() + _GRACE_SECONDS)
    try:
      i = ended.get(timeout=0.1)
    except queue.Empty:
      if links is not None and links.broken():
        _say("the emulated links broke; the processes are stopped")
        return os.EX_SOFTWARE
      continue
    running -= 1
    if workers[i].process.returncode and not stopped:
      return _report(i, workers[i])
  return 128 + stopped[0] if stopped else 0


def _report(i: int, worker: _Worker) -> int:
  worker.reader.join(timeout=1.0)  # its last words may still be in the pipe
  code = worker.process.returncode
  how = f"code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
  last = worker.tail[-1] if worker.tail else "(it printed nothing)"
  _say(f"process {i} ended with {how}; the others are stopped; it said: {last}")
  return code if code > 0 else 128 - code


def _end(workers: Sequence[_Worker]) -> None:
  """Stops whatever still runs: SIGTERM first, SIGKILL after the grace."""
  _signal(workers, signal.SIGTERM)
  deadline = time.monotonic() + _GRACE_SECONDS
  for worker in workers:
    try:
      worker.process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
      _signal([worker], signal.SIGKILL)
      worker.process.wait()
  for worker in workers:
    worker.reader.join(timeout=1.0)


def _signal(workers: Sequence[_Worker], number: int) -> None:
  for worker in workers:
    try:
      os.killpg(worker.process.pid, number)  # each leads its own group
    except ProcessLookupError:
      pass  # it and its children have ended


def _say(message: str) -> None:
  sys.stderr.write(f"launch: {message}\n")
  sys.stderr.flush()


if __name__ == "__main__":
  sys.exit(main())
