"""What the environment says about `algorithm="auto"`.

`DECTET_COLLECTIVES_ALGORITHM=nvrar` takes one algorithm for everything, and
`all_reduce:nvrar,all_gather:pccl_ring` one for each of those named.
`DECTET_COLLECTIVES_CHOICES=FILE` takes what `tune_collectives` learned. Both
are read when a program is traced: what `jit` has kept does not change.
"""

import os
from typing import get_args

from collectives import algorithms
from collectives import schedule as sched
from collectives.dispatch import choices

ALGORITHM = "DECTET_COLLECTIVES_ALGORITHM"
CHOICES = "DECTET_COLLECTIVES_CHOICES"


def resolve(
  collective: sched.Collective,
  nbytes: int,
  dtype: str,
  grid: sched.Grid,
  *,
  two_axes: bool,
) -> str:
  """Names the algorithm that `"auto"` stands for.

  Args:
    collective: what it computes.
    nbytes: bytes of the whole buffer: gathered in an all-gather, not yet
      scattered in a reduce-scatter.
    dtype: in which it travels.
    grid: the ranks.
    two_axes: whether algorithms of two levels can run.

  Returns:
    A name, or `"xla"` where neither variable is set.

  Raises:
    ValueError: a variable says what cannot be.
  """
  forced = _forced(collective, two_axes)
  if forced:
    return forced
  path = os.environ.get(CHOICES)
  if not path:
    return "xla"
  try:
    known = choices.load(path)
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{CHOICES}: got {path!r}, expected a file that tune_collectives wrote: "
      f"{error}"
    ) from error
  return known.choose(
    collective, nbytes, dtype, grid, two_axes=two_axes
  ).algorithm


def _forced(collective: sched.Collective, two_axes: bool) -> str | None:
  """Reads `ALGORITHM`."""
  for entry in filter(None, os.environ.get(ALGORITHM, "").split(",")):
    where, _, name = entry.rpartition(":")
    if where not in ("", *get_args(sched.Collective)):
      raise ValueError(
        f"{ALGORITHM}: got {entry!r}, expected a name such as nvrar, or "
        f"one of {get_args(sched.Collective)}, a colon and a name"
      )
    if where in ("", collective):
      _check(name, collective, two_axes)
      return name
  return None


def _check(name: str, collective: sched.Collective, two_axes: bool) -> None:
  if name == "xla":
    return
  try:
    found = algorithms.find(name, collective)
  except ValueError as error:
    raise ValueError(
      f"{ALGORITHM}: {error}; to set it for one collective write "
      "all_reduce:nvrar"
    ) from error
  if found.hierarchical and not two_axes:
    raise ValueError(
      f"{ALGORITHM}: got {name!r} for a {collective} over one axis, expected "
      "one without two levels; set it for other collectives only, or name two "
      "axes"
    )
