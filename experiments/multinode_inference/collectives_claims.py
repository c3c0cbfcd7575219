"""What is claimed of all-reduces, and the rule by which each claim is judged.

Rules were written before the first full run. Times are those of processes on
emulated links, never of one process, and are not judged where a neighbour
disturbed them. Of the paper only the abstract's range could be verified; it is
over NCCL on GPUs, so that it stands beside the rivals that NCCL has.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.comparison import Network, kilobytes
from experiments.multinode_inference import config as config_lib
from experiments.multinode_inference import rounding_claims
from experiments.multinode_inference.collectives_analysis import (
  Findings,
  Prediction,
)
from experiments.timed_claims import (
  EMPTY,
  at_worst,
  each,
  judged,
  named,
  unmeasured,
)
from research import runs

SMALL = 512 << 10  # bytes: up to here latency should rule
BAND = (128 << 10, 2048 << 10)  # the paper's range of sizes
OVER_XLA = 2.0
OVER_RIVALS = 1.6
OF_OPEN_MPI = 1.25  # within 25 % of it
MODEL_ERROR = 0.15

RIVALS = ("ring", "double_tree")  # what NCCL has, too
_PAPER = "1.9 to 3.6 over NCCL"


def judge(config: config_lib.Config, found: Findings) -> tuple[runs.Claim, ...]:
  """Judges every claim.

  Args:
    config: the settings.
    found: the findings.

  Returns:
    The claims, those of speed on the headline network first.
  """
  fast = [("fast", config.fast)] if config.fast.sizes else []
  return (
    *(
      claim
      for name, links in (("", config.headline), *fast)
      for claim in _speed(name, links, found)
    ),
    *(_model(config, found, group) for group in _GROUPS),
    *rounding_claims.judge(config.accuracy, found.rounding),
  )


def _speed(
  name: str, links: config_lib.Links, found: Findings
) -> tuple[runs.Claim, ...]:
  """Claims about one network; `name` tells their ids from the headline's."""
  network = found.networks.get(links.network)
  if network is None:
    network = Network(links.network, {}, 0)
  where = f"on emulated links ({network.name})"
  claims = (
    _over_rivals(network, where),
    _over_xla(network, where),
    _over_best(network, where),
    _winners(network, where),
    *(_open_mpi(network, where, peer) for peer in _OPEN_MPI),
  )
  return tuple(named(claim, name, found.reason) for claim in claims)


def _over_rivals(network: Network, where: str) -> runs.Claim:
  claim = dataclasses.replace(
    EMPTY,
    id="nvrar-over-rivals",
    statement="Up to 512 KB NVRAR is faster than ring and double tree, the "
    f"all-reduces that NCCL has, {where}",
    paper_value=_PAPER,
    unit="× at the worst size",
  )
  return _faster(claim, network, RIVALS, least=OVER_RIVALS)


def _over_xla(network: Network, where: str) -> runs.Claim:
  claim = dataclasses.replace(
    EMPTY,
    id="nvrar-over-xla",
    statement=f"Up to 512 KB NVRAR is faster than lax.psum {where}",
    unit="× at the worst size",
  )
  return _faster(claim, network, ("xla",), least=OVER_XLA)


def _faster(
  claim: runs.Claim, network: Network, rivals: Sequence[str], *, least: float
) -> runs.Claim:
  sizes = [size for size in network.sizes if size <= SMALL]
  missing = _missing(network, ("nvrar", *rivals))
  if missing or not sizes:
    return unmeasured(claim, missing or "sizes up to 512K")
  ratios = [
    network.ratio(network.best(rivals, size), "nvrar", size) for size in sizes
  ]
  return at_worst(
    claim,
    ratios,
    lambda worst: worst.median >= least,
    f"rule: at least {least} in medians at every size",
  )


def _over_best(network: Network, where: str) -> runs.Claim:
  claim = dataclasses.replace(
    EMPTY,
    id="nvrar-over-best",
    statement="From 128 KB to 2 MB: NVRAR against the best of all other "
    f"all-reduces here, flat and hierarchical, {where}",
    paper_value=_PAPER,
    unit="×",
  )
  rivals = network.ours("nvrar")
  missing = _missing(network, ("nvrar",)) or ("" if rivals else "a rival")
  sizes = _band(network)
  if missing or not sizes:
    return unmeasured(claim, missing or "sizes from 128K to 2M")
  ratios = [
    network.ratio(network.best(rivals, size), "nvrar", size) for size in sizes
  ]
  low, high = (end(r.median for r in ratios) for end in (min, max))
  return judged(
    dataclasses.replace(
      claim,
      measured=f"{low:.2f} to {high:.2f}",
      note=f"no aim was set, so not judged; {each(ratios)}",
    ),
    None,
    contended=any(r.contended for r in ratios),
  )


def _winners(network: Network, where: str) -> runs.Claim:
  claim = dataclasses.replace(
    EMPTY,
    id="winners",
    statement=f"Which all-reduce is the fastest at which size, {where}",
  )
  if len(network.algorithms) < 2:
    return unmeasured(claim, "two algorithms")
  winners = []
  for size in network.sizes:
    best = network.best(network.algorithms, size)
    sure = network.wins(size)[best]
    winners.append(f"{kilobytes(size)} {best} ({100 * sure:.0f} %)")
  crossings = [
    f"{c.before} gives way to {c.after} at {kilobytes(c.size)} "
    f"({kilobytes(c.low)} to {kilobytes(c.high)})"
    for c in network.crossings()
  ]
  return judged(
    dataclasses.replace(
      claim,
      measured=", ".join(winners),
      note="no aim was set, so not judged; in brackets the share of bootstrap "
      "draws in which it wins; "
      + ("; ".join(crossings) or "the winner never changes"),
    ),
    None,
    contended=network.contended,
  )


_OPEN_MPI = {
  "openmpi": "as it is set up by default",
  "openmpi-eager": "that sends everything without asking the receiver",
}


def _open_mpi(network: Network, where: str, peer: str) -> runs.Claim:
  claim = dataclasses.replace(
    EMPTY,
    id=f"nvrar-of-{peer}",
    statement="From 128 KB to 2 MB NVRAR takes at most a quarter longer than "
    f"the best all-reduce of Open MPI, {_OPEN_MPI[peer]}, {where}",
    unit="× of its time at the worst size",
  )
  names, sizes = network.of_peer(peer), _band(network)
  missing = _missing(network, ("nvrar",)) or ("" if names else "Open MPI")
  if missing or not sizes:
    return unmeasured(claim, missing or "sizes from 128K to 2M")
  ratios = [
    dataclasses.replace(
      network.ratio("nvrar", best := network.best(names, size), size), slow=best
    )
    for size in sizes
  ]
  worst = max(ratios, key=lambda ratio: ratio.median)
  return judged(
    dataclasses.replace(
      claim,
      measured=worst.median,
      interval=(worst.low, worst.high),
      note=f"rule: at most {OF_OPEN_MPI} in medians at every size; Open MPI's "
      f"ranks of a node share memory, ours talk by TCP; {each(ratios)}",
    ),
    worst.median <= OF_OPEN_MPI,
    contended=any(ratio.contended for ratio in ratios),
  )


_GROUPS = {
  "sizes": "sizes",
  "algorithms": "algorithms, each left out in its turn,",
  "networks": "networks of other grids",
}


def _model(
  config: config_lib.Config, found: Findings, group: str
) -> runs.Claim:
  claim = dataclasses.replace(
    EMPTY,
    id=f"model-{group}",
    statement="A model of latencies and bytes, fitted on emulated links "
    f"({config.headline.network}), predicts {_GROUPS[group]} that it has not "
    "seen",
    unit="% error of the worst cell",
    scope="beyond",
  )
  if found.reason:
    return dataclasses.replace(claim, note=f"not judged: {found.reason}")
  medians, fastest = (
    found.predictions[one][group] for one in ("median_us", "min_us")
  )
  if not medians:
    return unmeasured(claim, "cells to hold out")
  worst = max(medians, key=lambda cell: cell.error)
  contended = found.networks[config.headline.network].contended or any(
    found.networks[cell.network].contended for cell in medians
  )
  return judged(
    dataclasses.replace(
      claim,
      measured=100 * worst.error,
      note=f"rule: at most {100 * MODEL_ERROR:.0f} in each of {len(medians)} "
      f"cells; medians: {_errors(medians)}; fastest calls: {_errors(fastest)}",
    ),
    worst.error <= MODEL_ERROR,
    contended=contended,
  )


def _errors(cells: Sequence[Prediction]) -> str:
  errors = 100 * np.array([cell.error for cell in cells])
  worst = cells[int(errors.argmax())]
  return (
    f"median {np.median(errors):.1f} %, worst {errors.max():.1f} % "
    f"({worst.network} {worst.algorithm} {kilobytes(worst.size)}), "
    f"{(errors <= 100 * MODEL_ERROR).sum()} within"
  )


def _band(network: Network) -> list[int]:
  return [size for size in network.sizes if BAND[0] <= size <= BAND[1]]


def _missing(network: Network, names: Sequence[str]) -> str:
  return ", ".join(n for n in names if n not in network.algorithms)
