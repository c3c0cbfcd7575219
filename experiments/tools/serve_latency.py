"""What users of an engine feel: percentiles of waiting, and goodput."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.inference.request import Timing

_PERCENTILES = (50, 90, 99)


class Bounds(NamedTuple):
  """What a user puts up with.

  Attributes:
    ttft_s: seconds until the first token.
    itl_s: seconds between tokens, on average over an answer.
  """

  ttft_s: float = 1.0
  itl_s: float = 0.2


def report(
  timings: Sequence[Timing], seconds: float, bounds: Bounds
) -> dict[str, list[float] | float]:
  """Sums up how requests were served.

  Args:
    timings: of all requests; each drew a token at least.
    seconds: that serving them took.
    bounds: what a request must keep to count as good.

  Returns:
    By name, in units that the names say: percentiles 50, 90 and 99 of the time
    to the first token, between tokens (over all gaps of all requests) and to
    the end; tokens a second; goodput as good requests a second and as their
    share.
  """
  gaps = [gap for timing in timings for gap in timing.itl_s]
  good = sum(_is_good(timing, bounds) for timing in timings)
  tokens = sum(len(timing.tokens) for timing in timings)
  return {
    "TTFT ms": _milliseconds([t.tokens[0] - t.arrived for t in timings]),
    "ITL ms": _milliseconds(gaps),
    "E2E ms": _milliseconds([timing.e2e_s for timing in timings]),
    "tokens/s": round(tokens / seconds, 1),
    "good requests/s": round(good / seconds, 2),
    "good share": round(good / len(timings), 2),
  }


def _is_good(timing: Timing, bounds: Bounds) -> bool:
  first, last = timing.tokens[0], timing.tokens[-1]
  gap = (last - first) / max(len(timing.tokens) - 1, 1)
  return first - timing.arrived <= bounds.ttft_s and gap <= bounds.itl_s


def _milliseconds(seconds: Sequence[float]) -> list[float]:
  found = np.percentile(seconds, _PERCENTILES) if seconds else np.zeros(3)
  return [round(1e3 * float(x), 1) for x in found]
