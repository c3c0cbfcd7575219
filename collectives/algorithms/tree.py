"""The double binary tree: each tree reduces and broadcasts half the buffer.

Ranks that are inner in one tree are leaves in the other (but for rank 0 when p
is odd), so that with many chunks every rank sends and receives about twice the
buffer. A rank may receive from both children in one step.
"""

from fractions import Fraction

from collectives import schedule as sched
from collectives.algorithms import algorithm


def parent(rank: int, size: int) -> int:
  """Parent in the first tree, whose root is rank 0 and leaves the odd ranks.

  Example:
    >>> [parent(rank, 6) for rank in range(1, 6)]
    [2, 4, 2, 0, 4]
  """
  bit = rank & -rank
  above = (rank ^ bit) | (bit << 1)
  return above if above < size else rank ^ bit


def both(size: int) -> tuple[sched.Step, ...]:
  """All-reduce over the tree (slot 0) and its mirror or shift (slot 1)."""
  first = _climb(size)
  if size % 2:
    second = sched.place(first, lambda r: (r + 1) % size, lambda _: (1,))
  else:
    second = sched.place(first, lambda r: size - 1 - r, lambda _: (1,))
  up = sched.side_by_side([first, second])
  down = tuple(
    tuple(sched.Transfer(dst, src, slots, "copy") for src, dst, slots, _ in s)
    for s in reversed(up)
  )
  return up + down


def _climb(size: int) -> tuple[sched.Step, ...]:
  """A rank sends up as soon as it has heard from all below it."""
  ups = {rank: parent(rank, size) for rank in range(1, size)}
  height = [0] * size
  for rank in sorted(ups, key=lambda r: r & -r):  # children first
    height[ups[rank]] = max(height[ups[rank]], height[rank] + 1)
  return tuple(
    tuple(
      sched.Transfer(rank, ups[rank], (0,), "reduce")
      for rank in ups
      if height[rank] == level
    )
    for level in range(height[0])
  )


def cost(size: int) -> algorithm.Cost:
  """Of the all-reduce; an inner rank sends up once and down twice."""
  sent = Fraction(min(size, 4), 2) if size > 1 else Fraction(0)
  return algorithm.Cost(2 * (size - 1).bit_length(), sent)


def _form(grid: sched.Grid):
  return 2, (sched.Phase("up, down", "node", both(grid.size)),)


DOUBLE_TREE = algorithm.Algorithm(
  "double_tree",
  {
    "all_reduce": algorithm.Form(
      _form,
      lambda grid: cost(grid.size),
      "2 ceil(log2 p) steps, 2 M (p of 4 or more)",
    )
  },
)
