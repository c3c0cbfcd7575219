"""How all-reduces round in bfloat16: exact, by numpy, without links."""

import numpy as np
from jax import numpy as jnp
from jaxtyping import Float

from collectives import algorithms, executor
from collectives import schedule as sched
from experiments.multinode_inference import config as config_lib
from research import runs

#: What messages and sums are in.
BFLOAT16, FLOAT32 = "bfloat16", "float32"

#: Relative errors by algorithm, sum type and number of ranks, one a draw.
Rounding = dict[tuple[str, str, int], Float[np.ndarray, " draws"]]


def run(
  settings: config_lib.Accuracy, context: runs.Context, *, seed: int
) -> Rounding:
  """Measures all algorithms.

  Args:
    settings: of the study.
    context: each number of ranks is a unit of its stage `rounding`.
    seed: of the draws.
  """
  units = context.units("rounding").map(
    [str(ranks) for ranks in settings.ranks],
    lambda ranks: _errors(settings, int(ranks), seed),
  )
  return {
    (name, kind, ranks): units[str(ranks)][f"{name}.{kind}"]
    for ranks in settings.ranks
    for name in algorithms.names("all_reduce")
    for kind in (BFLOAT16, FLOAT32)
  }


def _errors(
  settings: config_lib.Accuracy, ranks: int, seed: int
) -> dict[str, np.ndarray]:
  grid = sched.Grid(ranks // settings.local, settings.local)
  rng = np.random.default_rng([seed, ranks])
  shape = (settings.draws, ranks, settings.numbers)
  inputs = rng.standard_normal(shape, np.float32).astype(jnp.bfloat16)
  found = {}
  for name in algorithms.names("all_reduce"):
    schedule = algorithms.find(name, "all_reduce").schedule("all_reduce", grid)
    for kind in (BFLOAT16, FLOAT32):
      errors = [relative_error(schedule, draw, kind) for draw in inputs]
      found[f"{name}.{kind}"] = np.array(errors)
  return found


def relative_error(
  schedule: sched.Schedule, inputs: np.ndarray, kind: str
) -> float:
  """Root mean square of the error of a sum over that of the sum.

  Args:
    schedule: an all-reduce.
    inputs: `[ranks, numbers]` in bfloat16.
    kind: dtype of messages and sums; the result is in bfloat16.

  Example:
    >>> ring = algorithms.find("ring", "all_reduce")
    >>> ones = np.ones((4, 8), jnp.bfloat16)
    >>> schedule = ring.schedule("all_reduce", sched.Grid(4))
    >>> relative_error(schedule, ones, FLOAT32)
    0.0
  """
  result = executor.execute(schedule, inputs, accumulate=jnp.dtype(kind))
  exact = inputs.astype(np.float64).sum(0)
  error = result[0].astype(np.float64) - exact
  return float(np.sqrt((error**2).mean() / (exact**2).mean()))
