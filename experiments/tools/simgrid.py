"""Runs SimGrid's SMPI, an independent simulator of MPI programs.

It comes as a package of the system (`libsimgrid-dev` in Debian). Its flow model
is set to what `collectives.simulator` means by a network: no TCP effects, both
directions independent, computation free, no buffered sends.
"""

import pathlib
import shutil
import subprocess
from collections.abc import Sequence

from collectives import schedule as sched
from collectives import simulator
from research import runs

_WORKER = pathlib.Path(__file__).parent / "peers" / "simgrid_worker.c"
_MODEL = (
  "network/model:CM02",
  "network/bandwidth-factor:1",
  "network/latency-factor:1",
  "network/TCP-gamma:0",
  "network/crosstraffic:0",
  "smpi/simulate-computation:no",
  "smpi/host-speed:1Gf",
  "smpi/send-is-detached-thresh:0",
)
_PLATFORM = """<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <zone id="world" routing="Full">
    <cluster id="nodes" prefix="node" suffix="" radical="0-{last}" speed="1Gf"
      sharing_policy="SPLITDUPLEX" bw="{bandwidth}Bps" lat="{half}s"
      loopback_bw="{local_bandwidth}Bps" loopback_lat="{local_latency}s"/>
  </zone>
</platform>
"""


class Missing(runs.UserError):
  """SimGrid is not installed."""


def version() -> str:
  """Returns the version's words, such as `"SimGrid version 3.32"`.

  Raises:
    Missing: if SimGrid is not installed.
  """
  if not shutil.which("smpirun") or not shutil.which("smpicc"):
    raise Missing(
      "simgrid: got no smpirun and smpicc on PATH, expected both; install the "
      "system's package libsimgrid-dev"
    )
  text = subprocess.check_output(["smpirun", "-version"], text=True)
  return text.strip().splitlines()[0]


def build(folder: pathlib.Path) -> pathlib.Path:
  """Compiles the program that SimGrid runs."""
  program = folder / "worker"
  subprocess.run(
    ["smpicc", "-O1", str(_WORKER), "-o", str(program)], check=True
  )
  return program


def describe(schedule: sched.Schedule) -> str:
  """Writes a schedule as the worker reads it."""
  steps = schedule.steps
  lines = [str(schedule.slots * schedule.chunks)]
  for tick, pairs in enumerate(schedule.timeline()):
    for _, index in pairs:
      for src, dst, slots, _ in steps[index]:
        lines.append(f"{tick} {src} {dst} {len(slots)}")
  return "\n".join(lines) + "\n"


def run(
  program: pathlib.Path,
  network: simulator.Network,
  what: str | sched.Schedule,
  sizes: Sequence[int],
  algorithm: str | None = None,
) -> list[float]:
  """Simulates one collective for some sizes.

  Args:
    program: from `build`; its folder is used for files.
    network: nodes with one card each.
    what: a collective that SimGrid does by its own `algorithm`, or a schedule
      whose messages it sends.
    sizes: bytes of the whole buffer.
    algorithm: SimGrid's name for it.

  Returns:
    Simulated seconds until the last rank is done, for each size.
  """
  folder = program.parent
  nodes, local = network.grid
  (folder / "platform.xml").write_text(
    _PLATFORM.format(
      last=nodes - 1,
      half=network.latency / 2,  # of a node's own link; a path has two
      bandwidth=network.bandwidth,
      local_latency=network.local_latency,
      local_bandwidth=network.local_bandwidth,
    )
  )
  hosts = [f"node{rank // local}" for rank in range(network.grid.size)]
  (folder / "hosts").write_text("\n".join(hosts) + "\n")
  options = [f"--cfg={option}" for option in _MODEL]
  if isinstance(what, str):
    options.append(f"--cfg=smpi/{_KEYS[what]}:{algorithm}")
    task = what
  else:
    (folder / "schedule.txt").write_text(describe(what))
    task = str(folder / "schedule.txt")
  command = ["smpirun", "-np", str(network.grid.size)]
  command += ["-platform", str(folder / "platform.xml")]
  command += ["-hostfile", str(folder / "hosts"), *options]
  command += ["--log=root.thresh:error", str(program), task, *map(str, sizes)]
  text = subprocess.check_output(command, text=True)
  times = dict(line.split() for line in text.splitlines())
  return [float(times[str(nbytes)]) for nbytes in sizes]


_KEYS = {
  "all_reduce": "allreduce",
  "all_gather": "allgather",
  "reduce_scatter": "reduce_scatter",
}
