"""NCCL's and RCCL's own cost models, with the constants that they publish.

Both libraries choose by a formula: for each algorithm and protocol a latency
from steps and a bandwidth from the machine. What they predict for their choice
is taken as their time.

References:
  NCCL, src/graph/tuning.cc (2.19 to 2.27). RCCL, src/graph/tuning.cc
  (rocm-6.x), tuning_model_0 and the constants of its latencies.
"""

import math
from typing import Literal, NamedTuple

from collectives import schedule as sched

Protocol = Literal["ll", "ll128", "simple"]
PROTOCOLS: tuple[Protocol, ...] = ("ll", "ll128", "simple")


class Links(NamedTuple):
  """What the libraries know of a machine.

  Attributes:
    bandwidth: bytes a second of a node's cards together.
    channels: rings or trees side by side: one a card, at least two.
    hopper: the GPU is an H100 (else an A100).
    amd: the CPU is AMD's.
  """

  bandwidth: float | int
  channels: int
  hopper: bool
  amd: bool


class Choice(NamedTuple):
  """What a library would run.

  Attributes:
    algorithm: `"ring"`, `"tree"` or `"pat"`.
    protocol: `"ll"`, `"ll128"` or `"simple"`.
    seconds: what it predicts.
  """

  algorithm: str
  protocol: Protocol
  seconds: float


# Microseconds of LL, LL128 and Simple: of a call, a hop within, a hop between.
_NCCL = {
  "tree": ((6.8, 14.0, 8.4), (0.6, 1.25, 4.0), (5.0, 8.5, 14.0)),
  "ring": ((6.6, 14.0, 8.4), (0.6, 1.9, 3.4), (2.7, 4.0, 14.0)),
}
_RCCL_RING = ((12.0, 12.0, 17.0), (0.8, 2.2, 3.6), (9.5, 19.8, 15.1))

# By the logarithm of bytes / 64.
_NCCL_TREE = {
  "ll": "1 1 1 1 .9 .8 .7 .7 .7 .7 .6 .5 .4 .4 .5 .6 .7 .8 .9 1 1 1 1",
  "ll128": "1 1 1 1 1 .9 .8 .8 .8 .7 .6 .6 .6 .6 .6 .6 .8 .9 .9 .9 .9 1 1",
  "simple": ".9 .9 .9 .9 .9 .9 .9 .8 .7 .6 .6 .5 .5 .5 .5 .6 .7 .8 .7 .7 .8 "
  ".9 .9",
}
_RCCL_RING_SIZES = {
  "ll": ".1 .1 .1 .1 .1 .2 .4 .2 .3 .5 .3 .1 .5 .5 .3 .2 .2 .1 .1 .1 .1 .1 .1 "
  ".1 .1 .1 .1",
  "ll128": ".1 .1 .1 .1 .1 .1 .1 .1 .1 .3 1 1 1 1 1 1 .8 .7 .5 .4 .4 .3 .3 .3 "
  ".3 .3 .3",
  "simple": "1 .8 .2 1 1 .3 1 .1 .1 .2 .2 .1 .5 1 .8 .8 1 .9 1 1 1 1 1 1 1 1 1",
}
_RCCL_RING_SHARE = {"ll": 0.04, "ll128": 0.34, "simple": 1.0}


def nccl(
  collective: sched.Collective,
  grid: sched.Grid,
  nbytes: float | int,
  links: Links,
) -> Choice:
  """What NCCL would run, by its own model.

  Args:
    collective: what it computes; only an all-reduce has trees, the others have
      PAT where each rank has a node of its own.
    grid: the ranks, on more than one node.
    nbytes: bytes of the whole buffer.
    links: the machine.

  Example:
    >>> perlmutter = Links(100e9, 4, hopper=False, amd=True)
    >>> nccl("all_reduce", sched.Grid(8, 4), 1 << 17, perlmutter)[:2]
    ('tree', 'll')
  """
  found = []
  for i, protocol in enumerate(PROTOCOLS):
    for algorithm, times in _NCCL.items():
      if algorithm == "tree" and collective != "all_reduce":
        continue
      base, near, far = (row[i] for row in times)
      speed = _nccl_speed(algorithm, protocol, grid, nbytes, links)
      if algorithm == "tree":
        hops = (grid.local - 1) * near + int(math.log2(grid.nodes)) * far
        latency, speed = base + 2 * hops, speed / 2
      else:
        steps, between = _ring_steps(collective, grid)
        near = max(near, _post(protocol, links.amd))
        latency = base + (steps - between) * near + between * far
        speed *= grid.size / steps
        if (
          collective == "all_reduce"
          and protocol == "simple"
          and nbytes / (links.channels * grid.size) >= 64
        ):
          latency *= 1.4
      found.append(Choice(algorithm, protocol, latency * 1e-6 + nbytes / speed))
  if collective != "all_reduce" and grid.local == 1:
    latency = 8 + math.log2(grid.nodes) * 14 / 3.5 + 2.8 * grid.size
    seconds = latency * 1e-6 + nbytes / (0.75 * links.bandwidth)
    found.append(Choice("pat", "simple", seconds))
  return min(found, key=lambda choice: choice.seconds)


def rccl(
  collective: Literal["all_gather", "reduce_scatter"],
  grid: sched.Grid,
  nbytes: float | int,
  links: Links,
) -> Choice:
  """What RCCL would run, by its own model: a ring.

  Args:
    collective: an all-gather or reduce-scatter, for which it has rings only.
    grid: the ranks, on more than two nodes.
    nbytes: bytes of the whole buffer.
    links: the machine.

  Example:
    >>> frontier = Links(100e9, 4, hopper=False, amd=True)
    >>> rccl("all_gather", sched.Grid(256, 8), 1 << 26, frontier)[:2]
    ('ring', 'll128')
  """
  steps, between = _ring_steps(collective, grid)
  found = []
  for i, protocol in enumerate(PROTOCOLS):
    base, near, far = (row[i] for row in _RCCL_RING)
    near = max(near, _post(protocol, links.amd))
    latency = base + (steps - between) * near + between * far
    speed = links.bandwidth * _RCCL_RING_SHARE[protocol] * grid.size / steps
    speed *= _by_size(_RCCL_RING_SIZES[protocol], nbytes)
    found.append(Choice("ring", protocol, latency * 1e-6 + nbytes / speed))
  return min(found, key=lambda choice: choice.seconds)


def _ring_steps(
  collective: sched.Collective, grid: sched.Grid
) -> tuple[int, int]:
  """Hops of a ring, and how many of them are between nodes."""
  rounds = 2 if collective == "all_reduce" else 1
  return rounds * (grid.size - 1), rounds * (grid.nodes - 1)


def _post(protocol: Protocol, amd: bool) -> float | int:
  """Microseconds in which a proxy posts a step of a ring."""
  return (2.0 if amd else 1.0) * (3 if protocol == "simple" else 1)


def _by_size(factors: str, nbytes: float | int) -> float | int:
  """Looks up a factor by size; beyond the last it is 1."""
  values = [float(word) for word in factors.split()]
  index = max(int(nbytes) >> 6, 1).bit_length() - 1
  return values[index] if index < len(values) else 1.0


def _nccl_speed(
  algorithm: str,
  protocol: Protocol,
  grid: sched.Grid,
  nbytes: float | int,
  links: Links,
) -> float | int:
  """Bytes a second on the wire."""
  few = grid.nodes <= 2
  ll_most = (
    (22.5e9 if few else 19e9) if links.amd else (39e9 if few else 20.4e9)
  )
  line = 36.7e9 if links.hopper else 20e9
  whole = links.bandwidth
  if algorithm == "ring":
    return {
      "ll": min(whole / 2, ll_most),
      "ll128": min(whole * 0.92, links.channels * line),
      "simple": whole,
    }[protocol]
  if links.hopper:
    branch, line = (41.4e9, 36.7e9) if few else (36e9, 29e9)
  else:
    branch = 23.6e9 if few else 17.8e9
  whole = min(whole * 0.92, links.channels * branch)
  speed = {
    "ll": min(whole / 3.8, ll_most),
    "ll128": min(whole * 120 / 128, links.channels * line),
    "simple": whole,
  }[protocol]
  return speed * _by_size(_NCCL_TREE[protocol], nbytes)
