"""Timings that can be believed on a shared machine.

Candidates take turns within each round, so that what disturbs one disturbs all;
every round is bracketed by a probe of free cores, and rounds in which a
neighbour was busy do not count. A timing is stated as a ratio to a peer or to a
limit of this machine, with its spread, apart from compilation.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np

from research.cluster import probe
from research.telemetry import peer

MIN_FREE_CORES = 1.8
MIN_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Limit:
  """What bounds a timing from below, in the unit of its row.

  Attributes:
    name: what it is, such as "weights over memory bandwidth".
    value: the bound.
  """

  name: str
  value: float


@dataclasses.dataclass(frozen=True)
class BenchResult:
  """One row of a bench.

  Attributes:
    name: the candidate.
    unit: of median, quartiles and limit; lower is better.
    median: over the rounds kept; None when none was.
    p25: lower quartile.
    p75: upper quartile.
    rounds_kept: rounds with enough free cores.
    rounds_dropped: rounds without.
    ratio_to: how many times faster than each other candidate this one is: the
      median over rounds of theirs / ours. Above 1, ours is ahead.
    limit: what bounds the timing.
    verdict: "contended" with fewer than 5 rounds kept: not to be judged;
      "unavailable" when a peer did not answer, with meta["reason"].
    kind: measured here, read off compiled code, or modelled.
    command: how to run it again.
    meta: the seconds of the first call (with compilation), free cores, ...
  """

  name: str
  unit: str
  median: float | None
  p25: float | None
  p75: float | None
  rounds_kept: int
  rounds_dropped: int
  ratio_to: Mapping[str, float] = dataclasses.field(default_factory=dict)
  limit: Limit | None = None
  verdict: Literal["judged", "contended", "unavailable"] = "judged"
  kind: Literal["measured", "compiled", "modelled"] = "measured"
  command: str = ""
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def fraction_of_limit(self) -> float | None:
    """Limit over median: 1 is as fast as the limit allows."""
    if self.limit is None or not self.median:
      return None
    return self.limit.value / self.median

  def to_json(self) -> dict[str, Any]:
    """Returns a dict that `json.dumps` takes."""
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, row: Mapping[str, Any]) -> "BenchResult":
    """Inverse of `to_json`."""
    fields = dict(row)
    if fields["limit"] is not None:
      fields["limit"] = Limit(**fields["limit"])
    return cls(**fields)


def interleave(
  candidates: Mapping[str, Callable[[], object]],
  *,
  rounds: int,
  work: float = 1.0,
  unit: str = "s",
  limits: Mapping[str, Limit] | None = None,
  command: str = "",
  on_round: Callable[[int], object] = lambda _: None,
) -> list[BenchResult]:
  """Times candidates against one another, each once per round.

  A first, untimed round compiles and warms up. The order rotates by one from
  round to round. A candidate that returns arrays is waited for; one that
  returns a `peer.Reply` counts with the seconds measured there; one that
  raises `peer.PeerUnavailableError` is reported as unavailable and left out.

  Args:
    candidates: what to call, by name.
    rounds: how many timed rounds; those on a busy machine are dropped later.
    work: units of work that one call does, such as 32 tokens.
    unit: of the result, such as "s/token".
    limits: bounds by candidate, in `unit`.
    command: how to run this bench again.
    on_round: called with the number of each finished round, for progress.

  Returns:
    One row per candidate, in the order given.

  Raises:
    ValueError: nothing to time, or a limit of something else.
  """
  limits = limits or {}
  if rounds < 1 or not candidates or not limits.keys() <= candidates.keys():
    raise ValueError(
      f"got {rounds} rounds of {list(candidates)} with limits for"
      f" {list(limits)}; expected a round, a candidate, and limits of"
      " candidates alone"
    )
  reasons: dict[str, str] = {}
  first = {name: _time(name, candidates, reasons) for name in candidates}
  seconds: dict[str, list[float]] = {name: [] for name in candidates}
  free = [probe.free_cores()]
  names = list(candidates)
  for r in range(rounds):
    start = r % len(names)
    for name in names[start:] + names[:start]:
      if name not in reasons:
        seconds[name].append(_time(name, candidates, reasons))
    free.append(probe.free_cores())
    on_round(r)
  rows = summarise(
    {name: np.array(s) / work for name, s in seconds.items()},
    np.minimum(free[:-1], free[1:]),
    unavailable=reasons,
  )
  return [
    dataclasses.replace(
      row,
      unit=unit,
      limit=limits.get(row.name),
      command=command,
      meta=row.meta
      if row.name in reasons
      else {"first_call_s": first[row.name], **row.meta},
    )
    for row in rows
  ]


def summarise(
  seconds: Mapping[str, np.ndarray],
  free_cores: np.ndarray,
  *,
  unavailable: Mapping[str, str],
) -> list[BenchResult]:
  """Turns the timings of all rounds into rows, by the rule of this module.

  Args:
    seconds: by candidate, one value per round.
    free_cores: the lower of the two probes around each round.
    unavailable: reasons, by candidate, for having no row of timings.
  """
  kept = free_cores >= MIN_FREE_CORES
  rows = []
  for name in seconds:
    if name in unavailable:
      rows.append(_unavailable_row(name, unavailable[name]))
      continue
    own = seconds[name][kept]
    quartiles = (
      np.percentile(own, [25, 50, 75]).tolist() if own.size else [None] * 3
    )
    ratios = {
      other: float(np.median(theirs[kept] / own))
      for other, theirs in seconds.items()
      if other != name and other not in unavailable and own.size
    }
    rows.append(
      BenchResult(
        name=name,
        unit="s",
        median=quartiles[1],
        p25=quartiles[0],
        p75=quartiles[2],
        rounds_kept=int(kept.sum()),
        rounds_dropped=int((~kept).sum()),
        ratio_to=ratios,
        verdict="judged" if kept.sum() >= MIN_ROUNDS else "contended",
        meta={"free_cores": float(np.median(free_cores))},
      )
    )
  return rows


def _unavailable_row(name: str, reason: str) -> BenchResult:
  return BenchResult(
    name=name,
    unit="s",
    median=None,
    p25=None,
    p75=None,
    rounds_kept=0,
    rounds_dropped=0,
    verdict="unavailable",
    meta={"reason": reason},
  )


def _time(
  name: str,
  candidates: Mapping[str, Callable[[], object]],
  reasons: dict[str, str],
) -> float:
  """Returns the seconds of one call, or NaN and the reason of a dead peer."""
  start = time.perf_counter()
  try:
    result = jax.block_until_ready(candidates[name]())
  except peer.PeerUnavailableError as error:
    reasons[name] = str(error)
    sys.stderr.write(f"bench: {name} is left out: {error}\n")
    return math.nan
  if isinstance(result, peer.Reply):
    return result.seconds
  return time.perf_counter() - start
