"""Two levels, (node, local): all local ranks talk across nodes at once.

Each rank of a node takes one share of the buffer across nodes, so that all
network cards work and 1/G of the bytes leave by each. Within a node the
vendor's reduce-scatter and all-gather do the rest (rings, where steps count).

References:
  NVRAR: arXiv 2511.09557. PCCL: arXiv 2504.18658.
"""

from collections.abc import Callable
from fractions import Fraction

from collectives import schedule as sched
from collectives.algorithms import algorithm, recursive, ring, tree


def _local_gather(grid: sched.Grid, run: int) -> tuple[sched.Phase, ...]:
  """Within every node, ranks gather each other's run of slots."""
  nodes, local = grid
  if local == 1:
    return ()
  steps = sched.side_by_side(
    sched.place(
      ring.gather(local),
      lambda rank, node=node: node * local + rank,
      lambda slot: range(slot * run, (slot + 1) * run),
    )
    for node in range(nodes)
  )
  return (sched.Phase("local gather", "local", steps, "all_gather"),)


def _local_scatter(grid: sched.Grid, run: int) -> tuple[sched.Phase, ...]:
  """Within every node, ranks reduce one run of slots each."""
  return tuple(
    sched.Phase(
      "local scatter", "local", sched.reverse(phase.steps), "reduce_scatter"
    )
    for phase in _local_gather(grid, run)
  )


def _across(
  grid: sched.Grid, run: int, name: str, steps: tuple[sched.Step, ...]
) -> tuple[sched.Phase, ...]:
  """Ranks of the same place in their nodes work on their own run of slots."""
  nodes, local = grid
  if nodes == 1:
    return ()
  placed = sched.side_by_side(
    sched.place(
      steps,
      lambda node, i=i: node * local + i,
      lambda slot, i=i: (i * run + slot,),
    )
    for i in range(local)
  )
  return (sched.Phase(name, "node", placed),)


def _two_level_cost(
  inner: Callable[[int], algorithm.Cost], rounds: int
) -> Callable[[sched.Grid], algorithm.Cost]:
  """Adds `rounds` local rings to an algorithm that has 1/G of the buffer."""

  def cost(grid):
    nodes, local = grid
    steps, sent, _, _ = inner(nodes)
    return algorithm.Cost(
      steps,
      sent / local,
      rounds * (local - 1),
      Fraction(rounds * (local - 1), local),
    )

  return cost


def _all_reduce(
  inner: Callable[[int], tuple[sched.Step, ...]],
  run: Callable[[int], int],
  cost: Callable[[int], algorithm.Cost],
  formula: str,
) -> algorithm.Form:
  """Reduce-scatter within nodes, all-reduce across, all-gather within."""

  def build(grid):
    slots = run(grid.nodes)
    phases = (
      *_local_scatter(grid, slots),
      *_across(grid, slots, "all-reduce across", inner(grid.nodes)),
      *_local_gather(grid, slots),
    )
    return slots * grid.local, phases

  return algorithm.Form(build, _two_level_cost(cost, 2), formula)


def _pccl(
  name: str,
  gather: Callable[[int], tuple[sched.Step, ...]],
  gather_cost: Callable[[int], algorithm.Cost],
  scatter_cost: Callable[[int], algorithm.Cost],
  formulas: tuple[str, str],
) -> algorithm.Algorithm:
  """Both levels scatter and gather; slots lie in (local, node) order."""

  def all_gather(grid):
    across = _across(grid, grid.nodes, "gather across", gather(grid.nodes))
    return grid.size, across + _local_gather(grid, grid.nodes)

  def reduce_scatter(grid):
    steps = sched.reverse(gather(grid.nodes))
    across = _across(grid, grid.nodes, "scatter across", steps)
    return grid.size, _local_scatter(grid, grid.nodes) + across

  def both(nodes):
    steps = gather(nodes)
    return sched.reverse(steps) + steps

  one_way, two_way = formulas
  return algorithm.Algorithm(
    name,
    {
      "all_reduce": _all_reduce(
        both,
        lambda nodes: nodes,
        lambda nodes: scatter_cost(nodes).then(gather_cost(nodes)),
        two_way,
      ),
      "all_gather": algorithm.Form(
        all_gather, _two_level_cost(gather_cost, 1), one_way
      ),
      "reduce_scatter": algorithm.Form(
        reduce_scatter, _two_level_cost(scatter_cost, 1), one_way
      ),
    },
    hierarchical=True,
  )


NVRAR = algorithm.Algorithm(
  "nvrar",
  {
    "all_reduce": _all_reduce(
      recursive.double,
      lambda _: 1,
      recursive.double_cost,
      "log2 N steps, log2 N M/G; folded: 2 steps and M/G more",
    )
  },
  hierarchical=True,
)
HIERARCHICAL_TREE = algorithm.Algorithm(
  "hierarchical_tree",
  {
    "all_reduce": _all_reduce(
      tree.both, lambda _: 2, tree.cost, "2 ceil(log2 N) steps, 2 M/G"
    )
  },
  hierarchical=True,
)
PCCL_RING = _pccl(
  "pccl_ring",
  ring.gather,
  ring.cost,
  ring.cost,
  ("N-1 steps, (N-1)/N M/G", "2(N-1) steps, 2(N-1)/N M/G"),
)
PCCL_RECURSIVE = _pccl(
  "pccl_recursive",
  recursive.gather,
  recursive.gather_cost,
  recursive.scatter_cost,
  (
    "log2 N steps, (N-1)/N M/G; folded: 2 steps more",
    "2 log2 N steps, 2(N-1)/N M/G; folded: 4 steps more",
  ),
)
