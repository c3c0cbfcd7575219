"""The algorithms, by name."""

import difflib
from collections.abc import Sequence

from collectives import schedule as sched
from collectives.algorithms import (
  bruck,
  hierarchical,
  recursive,
  ring,
  tree,
)
from collectives.algorithms.algorithm import Algorithm, Cost, Form

__all__ = ["ALGORITHMS", "Algorithm", "Cost", "Form", "find", "names"]

ALGORITHMS: dict[str, Algorithm] = {
  one.name: one
  for one in (
    ring.RING,
    bruck.BRUCK,
    recursive.RECURSIVE,
    recursive.RECURSIVE_DOUBLING,
    recursive.RABENSEIFNER,
    tree.DOUBLE_TREE,
    hierarchical.NVRAR,
    hierarchical.HIERARCHICAL_TREE,
    hierarchical.PCCL_RING,
    hierarchical.PCCL_RECURSIVE,
  )
}


def names(collective: sched.Collective) -> list[str]:
  """The algorithms that compute `collective`.

  Example:
    >>> names("all_gather")
    ['ring', 'bruck', 'recursive', 'pccl_ring', 'pccl_recursive']
  """
  return [name for name, one in ALGORITHMS.items() if collective in one.forms]


def find(
  name: str, collective: sched.Collective, *, also: Sequence[str] = ("xla",)
) -> Algorithm:
  """Returns an algorithm.

  Args:
    name: its name.
    collective: what it is to compute.
    also: other names that a caller takes, for the error.

  Raises:
    ValueError: if there is none of that name, or it computes something else.

  Example:
    >>> nvrar = find("nvrar", "all_reduce")
    >>> print(nvrar.schedule("all_reduce", sched.Grid(2)))
    nvrar all_reduce: 2 x 1 ranks, 1 slots, 1 chunks
    all-reduce across (node)
      0>1:+0 1>0:+0
  """
  if name in names(collective):
    return ALGORITHMS[name]
  choice = [*also, *names(collective)]
  close = difflib.get_close_matches(name, choice, n=1)
  hint = f"; did you mean {close[0]!r}?" if close else ""
  raise ValueError(
    f"algorithm for {collective}: got {name!r}, expected one of {choice}{hint}"
  )
