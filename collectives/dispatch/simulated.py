"""Cells by simulation: times of algorithms on a machine that is not at hand."""

from collections.abc import Sequence

from collectives import algorithms, machines, simulator
from collectives import schedule as sched
from collectives.dispatch import cells
from collectives.simulator import systems


def simulate(
  profile: machines.Profile,
  collective: sched.Collective,
  names: Sequence[str],
  nodes: Sequence[int],
  sizes: Sequence[int],
) -> list[cells.Cell]:
  """Simulates algorithms.

  Args:
    profile: the machine.
    collective: what to compute.
    names: of algorithms, which all ranks can run; `"xla"` is the library of
      the machine's GPUs, by its own cost model.
    nodes: how many nodes.
    sizes: bytes of the whole buffer.
  """
  local = int(profile["ranks"])
  result = []
  for count in nodes:
    grid = sched.Grid(count, local)
    timed = {
      name: _seconds(profile, collective, name, grid, sizes) for name in names
    }
    for i, nbytes in enumerate(sizes):
      seconds = {name: times[i] for name, times in timed.items()}
      result.append(cells.Cell(grid, nbytes, seconds))
  return result


def _seconds(
  profile: machines.Profile,
  collective: sched.Collective,
  name: str,
  grid: sched.Grid,
  sizes: Sequence[int],
) -> list[float]:
  if name == "xla":
    return [
      systems.vendor(profile, collective, grid.size, nbytes).seconds
      for nbytes in sizes
    ]
  if name == "nvrar":
    return [systems.nvrar(profile, grid.size, nbytes) for nbytes in sizes]
  if name in ("pccl_ring", "pccl_recursive"):
    return [
      systems.pccl(profile, collective, grid.size, nbytes, name)
      for nbytes in sizes
    ]
  found = algorithms.find(name, collective)
  schedule = found.schedule(collective, grid)
  links = profile.network(grid.size)
  return [
    simulator.simulate(schedule, links, nbytes).seconds for nbytes in sizes
  ]
