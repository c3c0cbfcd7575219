r"""Recursive doubling and halving, folded where p is no power of two.

With $p' = 2^{\lfloor \log_2 p \rfloor}$, rank $p' + i$ hands its data to
rank i, waits while the first $p'$ ranks work, and is handed the result.
"""

from collections.abc import Sequence
from fractions import Fraction

from collectives import schedule as sched
from collectives.algorithms import algorithm


def core_size(size: int) -> int:
  """The largest power of two that is at most `size`."""
  return 1 << (size.bit_length() - 1)


def gather(size: int) -> tuple[sched.Step, ...]:
  """All-gather by recursive doubling; the partner is rank XOR 1, 2, 4, ...

  Example:
    >>> [step[0].slots for step in gather(4)]
    [(0,), (0, 1)]
    >>> [step[0].slots for step in gather(3)]
    [(2,), (0, 2), (0, 1)]
  """
  core = core_size(size)
  extras = range(core, size)
  held = [
    {rank, rank + core} if rank + core < size else {rank}
    for rank in range(core)
  ]
  steps = [tuple(_copy(extra, extra - core, {extra}) for extra in extras)]
  distance = 1
  while distance < core:
    steps.append(
      tuple(_copy(rank, rank ^ distance, held[rank]) for rank in range(core))
    )
    held = [held[rank] | held[rank ^ distance] for rank in range(core)]
    distance *= 2
  steps.append(
    tuple(
      _copy(extra - core, extra, set(range(size)) - {extra}) for extra in extras
    )
  )
  return tuple(step for step in steps if step)


def double(size: int) -> tuple[sched.Step, ...]:
  """All-reduce by exchanging the whole vector (one slot).

  Example:
    >>> [(step[0].src, step[0].dst) for step in double(3)]
    [(2, 0), (0, 1), (0, 2)]
  """
  core = core_size(size)
  steps = []
  distance = 1
  while distance < core:
    steps.append(
      tuple(
        sched.Transfer(rank, rank ^ distance, (0,), "reduce")
        for rank in range(core)
      )
    )
    distance *= 2
  return fold(steps, size, 1)


def fold(
  steps: Sequence[sched.Step], size: int, slots: int
) -> tuple[sched.Step, ...]:
  """Wraps an all-reduce of the first ranks so that all `size` take part."""
  core = core_size(size)
  if core == size:
    return tuple(steps)
  everything = tuple(range(slots))
  first = tuple(
    sched.Transfer(extra, extra - core, everything, "reduce")
    for extra in range(core, size)
  )
  last = tuple(
    sched.Transfer(extra - core, extra, everything, "copy")
    for extra in range(core, size)
  )
  return (first, *steps, last)


def _copy(src: int, dst: int, slots: set[int]) -> sched.Transfer:
  return sched.Transfer(src, dst, tuple(sorted(slots)), "copy")


def _log(size: int) -> tuple[int, int, int]:
  """Steps of the core, its size, and 1 if there is anything to fold."""
  core = core_size(size)
  return core.bit_length() - 1, core, int(core < size)


def gather_cost(size: int) -> algorithm.Cost:
  """Of the all-gather; rank 0 sends most."""
  log, core, folded = _log(size)
  sent = core - 1 + folded * (size - 1)
  sent += sum(min(size - core, 1 << step) for step in range(log))
  return algorithm.Cost(log + 2 * folded, Fraction(sent, size))


def scatter_cost(size: int) -> algorithm.Cost:
  """Of the reduce-scatter, whose ranks send what they would gather."""
  log, _, folded = _log(size)
  return algorithm.Cost(log + 2 * folded, Fraction(size - 1, size))


def double_cost(size: int) -> algorithm.Cost:
  """Of the all-reduce of whole vectors."""
  log, _, folded = _log(size)
  return algorithm.Cost(log + 2 * folded, Fraction(log + folded))


def _rabenseifner_cost(grid: sched.Grid) -> algorithm.Cost:
  log, core, folded = _log(grid.size)
  sent = Fraction(2 * (core - 1), core) + folded
  return algorithm.Cost(2 * (log + folded), sent)


def _double_form(grid: sched.Grid):
  return 1, (sched.Phase("reduce", "node", double(grid.size)),)


def _rabenseifner_form(grid: sched.Grid):
  """Halves with the nearest rank first: half the buffer stays in the node."""
  core = core_size(grid.size)
  bits = core.bit_length() - 1

  def mirrored(rank: int) -> int:
    return int(f"{rank:0{bits}b}"[::-1], 2) if bits else rank

  steps = sched.place(gather(core), mirrored, lambda slot: (slot,))
  steps = fold(sched.reverse(steps) + steps, grid.size, core)
  return core, (sched.Phase("scatter, gather", "node", steps),)


_forms = algorithm.flat_forms(
  gather,
  gather_cost,
  scatter_cost,
  {
    "all_reduce": "",
    "all_gather": "log2 p steps, (p-1)/p M; folded: 2 more, up to M more",
    "reduce_scatter": "log2 p steps, (p-1)/p M; folded: 2 steps more",
  },
)
del _forms["all_reduce"]  # Rabenseifner folds the whole, which is 2 steps less.
RECURSIVE = algorithm.Algorithm("recursive", _forms)
RECURSIVE_DOUBLING = algorithm.Algorithm(
  "recursive_doubling",
  {
    "all_reduce": algorithm.Form(
      _double_form,
      lambda grid: double_cost(grid.size),
      "log2 p steps, log2 p M; folded: 2 steps and M more",
    )
  },
)
RABENSEIFNER = algorithm.Algorithm(
  "rabenseifner",
  {
    "all_reduce": algorithm.Form(
      _rabenseifner_form,
      _rabenseifner_cost,
      "2 log2 p steps, 2(p-1)/p M; folded (p' below p): 2 steps and M more",
    )
  },
)
