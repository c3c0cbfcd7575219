"""What is claimed of all-reduces in bfloat16, and the rule of each claim."""

import numpy as np

from collectives import algorithms
from experiments.multinode_inference import config as config_lib
from experiments.multinode_inference.accuracy import (
  BFLOAT16,
  FLOAT32,
  Rounding,
)
from research import runs

OVER_RING = 2.0
AS_DOUBLING = 1.1  # times the error of recursive doubling
ALIKE = 1.1  # largest over smallest error


def judge(
  settings: config_lib.Accuracy, rounding: Rounding
) -> tuple[runs.Claim, ...]:
  """Judges every claim.

  Args:
    settings: of the study.
    rounding: relative errors.
  """
  ranks = settings.headline_ranks
  return (
    _over_ring(settings, rounding),
    _as_doubling(rounding, ranks),
    _float32(rounding, ranks),
  )


def _over_ring(settings: config_lib.Accuracy, rounding: Rounding) -> runs.Claim:
  ranks = settings.headline_ranks
  by_ranks = {
    p: _mean(rounding, "ring", p) / _mean(rounding, "recursive_doubling", p)
    for p in settings.ranks
  }
  each = ", ".join(f"{p} ranks {r:.2f}" for p, r in by_ranks.items())
  return runs.Claim(
    id="bf16-doubling-over-ring",
    statement="Sums in bfloat16 are more accurate by recursive doubling than "
    f"by a ring, on {ranks} ranks",
    paper_value=None,
    measured=by_ranks[ranks],
    unit="× smaller error",
    kind="measured",
    scope="beyond",
    holds=by_ranks[ranks] >= OVER_RING,
    note=f"relative error, root mean square, against float64; rule: at least "
    f"{OVER_RING}; {each}; computed by numpy",
  )


def _as_doubling(rounding: Rounding, ranks: int) -> runs.Claim:
  ratio = _mean(rounding, "nvrar", ranks) / _mean(
    rounding, "recursive_doubling", ranks
  )
  return runs.Claim(
    id="bf16-nvrar-as-doubling",
    statement="NVRAR in bfloat16 is as accurate as flat recursive doubling, "
    f"on {ranks} ranks",
    paper_value=None,
    measured=ratio,
    unit="× its error",
    kind="measured",
    scope="beyond",
    holds=ratio <= AS_DOUBLING,
    note=f"rule: at most {AS_DOUBLING}; computed by numpy",
  )


def _float32(rounding: Rounding, ranks: int) -> runs.Claim:
  names = algorithms.names("all_reduce")
  wide = [_mean(rounding, name, ranks, FLOAT32) for name in names]
  narrow = [_mean(rounding, name, ranks) for name in names]
  spread = max(wide) / min(wide)
  return runs.Claim(
    id="float32-sums-alike",
    statement="With float32 sums all algorithms round bfloat16 alike, "
    f"on {ranks} ranks",
    paper_value=None,
    measured=spread,
    unit="× from the smallest to the largest error",
    kind="measured",
    scope="beyond",
    holds=spread <= ALIKE,
    note=f"rule: at most {ALIKE}; with bfloat16 sums "
    f"{max(narrow) / min(narrow):.2f}; computed by numpy",
  )


def _mean(
  rounding: Rounding, name: str, ranks: int, kind: str = BFLOAT16
) -> float:
  return float(np.mean(rounding[name, kind, ranks]))
