"""What is claimed of 2,048 GCDs of Frontier: modelled, nothing was timed there.

Constants are those of `collectives/machines`, none from the paper's results.
The paper's figures are its abstracts' (first version: all-gather and training;
second: reduce-scatter), which name no sizes; here they are those of sharded
training, tens to hundreds of megabytes.
"""

import dataclasses
from collections.abc import Sequence

from experiments import dispatched
from experiments.comparison import kilobytes
from experiments.pccl import modelled_config, modelled_training, step_traffic
from experiments.pccl.modelled_study import (
  CRAY_MPICH,
  OURS,
  PCCL_RING,
  RCCL,
  Clock,
  Found,
  System,
)
from research import runs

ALL_GATHER: dict[System, tuple[float, float]] = {
  RCCL: (6.0, 33.0),
  CRAY_MPICH: (28.0, 70.0),
}
SCATTER = 168.0  # up to, over RCCL
WITHIN = 2.0  # times "up to" a factor
GAINS = {"7b": 60.0, "13b": 40.0}  # %, up to
POINTS = 20.0  # around a gain
FLAT, LINEAR = 0.25, 0.5  # of the growth of the number of GCDs
SURE = 0.01  # on a map: who is faster by less is not

_EMPTY = runs.Claim(
  id="-",
  statement="-",
  paper_value=None,
  measured=None,
  kind="modelled",
  scope="paper",
  holds=None,
)


def judge(
  settings: modelled_config.Modelled, found: Found
) -> tuple[runs.Claim, ...]:
  """Judges every modelled claim.

  Args:
    settings: what was modelled.
    found: what came out.
  """
  claims = [
    *(_band(settings, found, rival) for rival in ALL_GATHER),
    _scatter(settings, found),
    _growth(settings, found.clock),
  ]
  if settings.map_ranks and settings.map_sizes:
    claims += [_map(settings, found.clock, ring) for ring in (PCCL_RING, RCCL)]
  for model in found.traffic:
    claims += [_step(settings, found, model), _traffic(found, model)]
  for one in settings.choice:
    claims += [
      dispatched.judge_simulated(one, side, scores)
      for (name, side), scores in found.scores.items()
      if name == one.name
    ]
  return tuple(claims)


def ratios(
  settings: modelled_config.Modelled,
  clock: Clock,
  collective: step_traffic.Side,
  rival: System,
) -> list[float]:
  """A rival's time over PCCL's, for each size on the most GCDs."""
  ranks = settings.ranks[-1]
  return [
    clock(rival, collective, ranks, size) / clock(OURS, collective, ranks, size)
    for size in settings.sizes
  ]


def _band(
  settings: modelled_config.Modelled, found: Found, rival: System
) -> runs.Claim:
  low, high = ALL_GATHER[rival]
  got = ratios(settings, found.clock, "all_gather", rival)
  inside = [low <= ratio <= high for ratio in got]
  return dataclasses.replace(
    _EMPTY,
    id=f"modelled-all-gather-over-{rival.lower().replace(' ', '-')}",
    statement=f"PCCL's recursive all-gather is {low:g} to {high:g} times "
    f"faster than {rival}'s on {settings.ranks[-1]} GCDs of Frontier",
    paper_value=f"{low:g} to {high:g}",
    measured=_span(got),
    unit="×",
    holds=all(inside),
    note="rule: within the paper's range at every size; "
    + _each(settings.sizes, got)
    + _assumed(settings, found, "all_gather", rival),
  )


def _scatter(settings: modelled_config.Modelled, found: Found) -> runs.Claim:
  got = ratios(settings, found.clock, "reduce_scatter", RCCL)
  mpich = ratios(settings, found.clock, "reduce_scatter", CRAY_MPICH)
  return dataclasses.replace(
    _EMPTY,
    id="modelled-reduce-scatter-over-rccl",
    statement=f"PCCL's recursive reduce-scatter is up to {SCATTER:g} times "
    f"faster than RCCL's on {settings.ranks[-1]} GCDs of Frontier",
    paper_value=f"up to {SCATTER:g}",
    measured=max(got),
    unit="× at the best size",
    holds=SCATTER / WITHIN <= max(got) <= SCATTER * WITHIN,
    note=f"rule: within a factor of {WITHIN:g} of it at the best size; "
    + _each(settings.sizes, got)
    + _assumed(settings, found, "reduce_scatter", RCCL)
    + f"; over Cray MPICH {_span(mpich)}",
  )


def _growth(settings: modelled_config.Modelled, clock: Clock) -> runs.Claim:
  first, last = settings.ranks[0], settings.ranks[-1]
  size = settings.sizes[0]
  grown = {
    system: clock(system, "all_gather", last, size)
    / clock(system, "all_gather", first, size)
    for system in (OURS, RCCL, CRAY_MPICH)
  }
  factor = last / first
  ours = grown.pop(OURS)
  return dataclasses.replace(
    _EMPTY,
    id="modelled-growth",
    statement=f"From {first} to {last} GCDs the time of PCCL's recursive "
    "all-gather hardly grows, and that of the vendors' grows with the GCDs",
    measured=ours,
    unit="× its own time",
    scope="mechanism",
    holds=ours <= max(FLAT * factor, 1.0)
    and all(one >= LINEAR * factor for one in grown.values()),
    note=f"rule: {factor:g} times the GCDs take PCCL at most "
    f"{max(FLAT * factor, 1.0):g} and the others at least {LINEAR * factor:g} "
    f"times as long; {kilobytes(size)}; "
    + ", ".join(f"{name} {one:.2f}" for name, one in grown.items()),
  )


def _map(
  settings: modelled_config.Modelled, clock: Clock, ring: System
) -> runs.Claim:
  """Corners of the map: few GCDs and many bytes, many GCDs and few bytes."""

  def over(ranks: int, size: int) -> float:
    return clock(ring, "all_gather", ranks, size) / clock(
      OURS, "all_gather", ranks, size
    )

  ranks, sizes = settings.map_ranks, settings.map_sizes
  large, small = over(ranks[0], sizes[-1]), over(ranks[-1], sizes[0])
  whose = "PCCL's own" if ring == PCCL_RING else f"{ring}'s"
  return dataclasses.replace(
    _EMPTY,
    id=f"modelled-map-{ring.lower().replace('_', '-')}",
    statement="The recursive all-gather wins on many GCDs with few bytes, and "
    f"{whose} ring on few GCDs with many bytes",
    paper_value="recursive forms for many ranks and small messages, rings "
    "otherwise",
    measured=f"{small:.2f} and {large:.2f}",
    unit="× as long by the ring, at the two corners",
    holds=small > 1 + SURE and large < 1 - SURE,
    note=f"rule: by more than {100 * SURE:g} % on {ranks[-1]} GCDs at "
    f"{kilobytes(sizes[0])}, and on {ranks[0]} at {kilobytes(sizes[-1])}",
  )


def _step(
  settings: modelled_config.Modelled, found: Found, model: str
) -> runs.Claim:
  traffic, published = found.traffic[model], GAINS[model]

  def best(load: modelled_training.Load) -> float:
    return max(
      modelled_training.gain(found.clock, model, traffic, ranks, load)
      for ranks in settings.ranks
    )

  usual = best(modelled_training.USUAL)
  ends = [best(load) for load in modelled_training.loads()]
  each = ", ".join(
    f"{ranks} GCDs "
    f"{modelled_training.gain(found.clock, model, traffic, ranks):.0f} %"
    for ranks in settings.ranks
  )
  load = modelled_training.USUAL
  return dataclasses.replace(
    _EMPTY,
    id=f"modelled-zero3-{model}",
    statement=f"A ZeRO-3 step of GPT-3 {model.upper()} is up to "
    f"{published:g} % faster by PCCL than by RCCL, on {settings.ranks[0]} to "
    f"{settings.ranks[-1]} GCDs of Frontier",
    paper_value=published,
    measured=usual,
    unit="% faster at the best number of GCDs",
    interval=(min(ends), max(ends)),
    holds=abs(usual - published) <= POINTS,
    note=f"rule: within {POINTS:g} points, at {100 * load.efficiency:.1f} % of "
    f"the peak, 2^{load.batch.bit_length() - 1} tokens a step and nothing "
    f"hidden; {each}; the interval is over what no source fixes: efficiency 32 "
    "to 50 %, twice the batch, communication hidden as far as possible; bytes "
    "by the compiled step, bfloat16",
  )


def _traffic(found: Found, model: str) -> runs.Claim:
  traffic = found.traffic[model]
  ratio = traffic.compiled / traffic.planned
  return dataclasses.replace(
    _EMPTY,
    id=f"modelled-zero3-{model}-bytes",
    statement=f"A compiled ZeRO-3 step of GPT-3 {model.upper()} sends what its "
    "plan says, which is what is simulated",
    measured=ratio,
    unit="× the plan's numbers",
    kind="compiled",
    scope="beyond",
    holds=1 <= ratio <= 1.001,
    note=f"rule: from 1 to 1.001; all layers and true shapes, "
    f"{len(traffic.calls)} kinds of collectives, {traffic.planned:.4g} numbers "
    "a step; beside them the loss",
  )


def _assumed(
  settings: modelled_config.Modelled,
  found: Found,
  collective: step_traffic.Side,
  rival: System,
) -> str:
  """How much hangs on constants that no source states."""
  return "".join(
    f"; with assumed times × {factor:g} and assumed speeds / {factor:g} "
    f"{_span(ratios(settings, clock, collective, rival))}"
    for factor, clock in found.assumed.items()
  )


def _span(values: Sequence[float]) -> str:
  return f"{min(values):.2f} to {max(values):.2f}"


def _each(sizes: Sequence[int], values: Sequence[float]) -> str:
  return ", ".join(
    f"{kilobytes(size)} {value:.1f}"
    for size, value in zip(sizes, values, strict=True)
  )
