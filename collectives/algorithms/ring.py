"""The ring: most steps, fewest bytes, neighbours only."""

from fractions import Fraction

from collectives import schedule as sched
from collectives.algorithms import algorithm


def gather(size: int) -> tuple[sched.Step, ...]:
  """All-gather: each rank hands on what it received last.

  Example:
    >>> gather(3)[1][0]
    Transfer(src=0, dst=1, slots=(2,), action='copy')
  """
  return tuple(
    sched.Shift(size, 1, (-step,), "copy") for step in range(size - 1)
  )


def cost(size: int) -> algorithm.Cost:
  """Of an all-gather or reduce-scatter."""
  return algorithm.Cost(size - 1, Fraction(size - 1, size))


RING = algorithm.Algorithm(
  "ring",
  algorithm.flat_forms(
    gather,
    cost,
    cost,
    {
      "all_reduce": "2(p-1) steps, 2(p-1)/p M",
      "all_gather": "p-1 steps, (p-1)/p M",
      "reduce_scatter": "p-1 steps, (p-1)/p M",
    },
  ),
)
