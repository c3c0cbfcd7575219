"""What the cost model counts, kept for each grid, and added up exactly."""

import dataclasses
import fractions
import functools
from typing import NamedTuple

from collectives import algorithms, cost_model
from collectives import schedule as sched

_OF_BYTES = (False, True, False, True, True)  # terms that grow with the buffer


class Unit(NamedTuple):
  """The terms of a buffer of one byte a slot, which are whole numbers.

  Attributes:
    terms: of such a buffer.
    slots: how many bytes it has.
  """

  terms: cost_model.Terms
  slots: int


@functools.lru_cache(maxsize=4096)
def unit(name: str, collective: sched.Collective, grid: sched.Grid) -> Unit:
  """Counts an algorithm once for all sizes.

  Args:
    name: of an algorithm; any other is counted as what gloo does.
    collective: what it computes.
    grid: the ranks.
  """
  if name not in algorithms.names(collective):
    name = cost_model.GLOO[collective]
  found = algorithms.find(name, collective).schedule(collective, grid)
  return Unit(cost_model.count(found, found.slots, grid), found.slots)


def terms(
  name: str, collective: sched.Collective, grid: sched.Grid, nbytes: int
) -> cost_model.Terms:
  """What `cost_model.terms` returns, faster for many sizes.

  Example:
    >>> terms("ring", "all_gather", sched.Grid(4), 1000).inter_bytes
    750.0
  """
  counted, slots = unit(name, collective, grid)
  values = dataclasses.astuple(counted)
  share = nbytes / slots
  scaled = (
    value * share if of_bytes else value
    for value, of_bytes in zip(values, _OF_BYTES, strict=True)
  )
  return cost_model.Terms(*scaled)


@functools.lru_cache(maxsize=4096)
def seconds(
  machine: tuple[float, ...],
  name: str,
  collective: sched.Collective,
  nbytes: int,
  grid: sched.Grid,
) -> fractions.Fraction:
  """What `cost_model.Machine(*machine)` predicts, the same on any processor.

  `Machine.predict` leaves the order of its additions to the processor.

  Example:
    >>> seconds((0.5, 0.25, 0.0, 0.0, 0.0, 1.0), "ring", "all_gather", 8,
    ...   sched.Grid(2))
    Fraction(5, 2)
  """
  counted, slots = unit(name, collective, grid)
  total = fractions.Fraction(machine[-1])
  rows = zip(dataclasses.astuple(counted), machine[:-1], _OF_BYTES, strict=True)
  for value, constant, of_bytes in rows:
    exact = fractions.Fraction(value) * fractions.Fraction(constant)
    total += exact * fractions.Fraction(nbytes, slots) if of_bytes else exact
  return total
