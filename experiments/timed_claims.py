"""How claims about times on emulated links are put and judged.

Nothing is judged by calls that a neighbour disturbed.
"""

import dataclasses
from collections.abc import Callable, Sequence

from experiments import comparison
from research import runs

CONTENDED = "not judged: a neighbour left fewer than five blocks of calls"
EMPTY = runs.Claim(
  id="-",
  statement="-",
  paper_value=None,
  measured=None,
  kind="measured",
  scope="mechanism",
  holds=None,
  time_dependent=True,
)


def named(claim: runs.Claim, place: str, reason: str) -> runs.Claim:
  """Tells a claim from the headline's, and says why it has no times.

  Args:
    claim: of one network.
    place: what to add to its id; empty for the headline's.
    reason: why nothing was timed; empty where it was.
  """
  return dataclasses.replace(
    claim,
    id=f"{claim.id}.{place}" if place else claim.id,
    note=f"not judged: {reason}" if reason else claim.note,
  )


def unmeasured(claim: runs.Claim, what: str) -> runs.Claim:
  """Says that a config leaves out what a claim needs."""
  return dataclasses.replace(
    claim, note=f"not judged: this config did not measure {what}"
  )


def judged(
  claim: runs.Claim, holds: bool | None, *, contended: bool
) -> runs.Claim:
  """Judges a claim, unless neighbours disturbed what it stands on.

  Args:
    claim: with all but its verdict.
    holds: the verdict.
    contended: whether it stands on disturbed calls.
  """
  return dataclasses.replace(
    claim,
    holds=None if contended else holds,
    note=claim.note + (f"; {CONTENDED}" if contended else ""),
  )


def at_worst(
  claim: runs.Claim,
  ratios: Sequence[comparison.Ratio],
  rule: Callable[[comparison.Ratio], bool],
  words: str,
) -> runs.Claim:
  """Judges a claim by its lowest ratio.

  Args:
    claim: what is claimed.
    ratios: a rival's time over ours.
    rule: whether the lowest is enough.
    words: the rule for readers.
  """
  worst = min(ratios, key=lambda ratio: ratio.median)
  return judged(
    dataclasses.replace(
      claim,
      measured=worst.median,
      interval=(worst.low, worst.high),
      note=f"{words}; {each(ratios)}",
    ),
    bool(rule(worst)),
    contended=any(ratio.contended for ratio in ratios),
  )


def each(ratios: Sequence[comparison.Ratio]) -> str:
  """Lists ratios by size."""
  return "medians (fastest calls): " + ", ".join(
    f"{comparison.kilobytes(r.size)} {r.median:.2f} ({r.least:.2f}) {r.slow}"
    for r in ratios
  )
