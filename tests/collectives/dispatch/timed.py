"""Cells for the tests: what the cost model says of made-up links."""

from collections.abc import Iterable

from collectives import cost_model
from collectives import schedule as sched
from collectives.dispatch import cells, counting

LINKS = cost_model.Machine(1e-3, 8e-9, 1e-4, 1e-9, 1e-10, 5e-4)
NAMES = ("xla", "recursive_doubling", "nvrar", "pccl_recursive", "pccl_ring")


def cell(nodes: int, local: int, nbytes: int, names=NAMES) -> cells.Cell:
  grid = sched.Grid(nodes, local)
  seconds = {
    name: LINKS.predict(counting.terms(name, "all_reduce", grid, nbytes))
    for name in names
    if local > 1 or not cells.hierarchical(name)
  }
  return cells.Cell(grid, nbytes, seconds)


def square(
  nodes: Iterable[int], powers: Iterable[int], local: int = 2
) -> list[cells.Cell]:
  powers = list(powers)
  return [cell(n, local, 1 << power) for n in nodes for power in powers]
