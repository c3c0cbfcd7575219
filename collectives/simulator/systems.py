"""How long collectives of the papers, and their rivals, take on a machine.

All figures are modelled: no time was measured on these machines here.

References:
  NVRAR: arXiv 2511.09557. PCCL: arXiv 2504.18658.
"""

from typing import Literal

from collectives import algorithms, machines
from collectives import schedule as sched
from collectives.simulator import engine, tuner


def nvrar(profile: machines.Profile, ranks: int, nbytes: float | int) -> float:
  """Seconds of NVRAR's all-reduce, by the better of its two protocols.

  Example:
    >>> round(nvrar(machines.load("vista"), 2, 1024) * 1e6, 1)  # launch, step
    6.5
  """
  links = profile.network(ranks)
  found = algorithms.find("nvrar", "all_reduce")
  schedule = found.schedule("all_reduce", links.grid)
  return min(
    engine.simulate(schedule, links, nbytes, low_latency=flags).seconds
    for flags in (True, False)
  )


def pccl(
  profile: machines.Profile,
  collective: sched.Collective,
  ranks: int,
  nbytes: float | int,
  algorithm: Literal["pccl_recursive", "pccl_ring"] = "pccl_recursive",
) -> float:
  """Seconds of PCCL, with the kernel that brings blocks into rank order."""
  links = profile.network(ranks)
  schedule = algorithms.find(algorithm, collective).schedule(
    collective, links.grid
  )
  seconds = engine.simulate(schedule, links, nbytes).seconds
  if schedule.shuffled:  # every byte is read once and written once
    seconds += profile["launch"] + 2 * nbytes / profile["memory_bandwidth"]
  return seconds


def vendor(
  profile: machines.Profile,
  collective: sched.Collective,
  ranks: int,
  nbytes: float | int,
) -> tuner.Choice:
  """What the GPU maker's library runs, and how long by its own model.

  Raises:
    ValueError: for an all-reduce on a machine with RCCL, which is not modelled.
  """
  cards = int(profile["cards"])
  links = tuner.Links(
    cards * profile["bandwidth"],
    channels=max(cards, 2),
    hopper=profile.gpu == "hopper",
    amd=profile.cpu == "amd",
  )
  grid = profile.grid(ranks)
  if profile.vendor == "nccl":
    return tuner.nccl(collective, grid, nbytes, links)
  if collective == "all_reduce":
    raise ValueError(
      "collective: got 'all_reduce', expected 'all_gather' or "
      "'reduce_scatter': of RCCL only those are modelled"
    )
  return tuner.rccl(collective, grid, nbytes, links)


def cray_mpich(
  profile: machines.Profile,
  collective: Literal["all_gather", "reduce_scatter"],
  ranks: int,
  nbytes: float | int,
) -> float:
  """Seconds of Cray MPICH's ring, as PCCL's authors observed it.

  One card of a node carries all that it sends, and the host reduces: blocks
  go down to its memory, which the node's ranks share. MPICH takes the ring from
  512 KiB on.
  """
  grid = profile.grid(ranks)
  block = nbytes / ranks
  step = profile["latency"] + profile["software"] + block / profile["bandwidth"]
  if collective == "reduce_scatter":
    step += block / profile["host_link"]
    step += 3 * block * grid.local / profile["host_memory"]
  return (ranks - 1) * step
