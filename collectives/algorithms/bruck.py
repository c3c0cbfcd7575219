"""Bruck's algorithm: logarithmic for any number of ranks, without folding."""

from fractions import Fraction

from collectives import schedule as sched
from collectives.algorithms import algorithm


def gather(size: int) -> tuple[sched.Step, ...]:
  """All-gather: blocks held double until the last, shorter step.

  Slots keep the number of their block, so the final rotation of the textbook
  is not needed: what it saves is wrap-around messages.

  Example:
    >>> [step[0].slots for step in gather(5)]
    [(0,), (0, 1), (0,)]
  """
  steps = []
  held = 1
  while held < size:
    count = min(held, size - held)
    steps.append(sched.Shift(size, -held, tuple(range(count)), "copy"))
    held += count
  return tuple(steps)


def cost(size: int) -> algorithm.Cost:
  """Of an all-gather or reduce-scatter."""
  return algorithm.Cost((size - 1).bit_length(), Fraction(size - 1, size))


BRUCK = algorithm.Algorithm(
  "bruck",
  algorithm.flat_forms(
    gather,
    cost,
    cost,
    {
      "all_reduce": "2 ceil(log2 p) steps, 2(p-1)/p M",
      "all_gather": "ceil(log2 p) steps, (p-1)/p M",
      "reduce_scatter": "ceil(log2 p) steps, (p-1)/p M",
    },
  ),
)
