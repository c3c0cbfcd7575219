"""From timed calls to what claims and figures share."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Literal

from collectives import cost_model
from collectives import schedule as sched
from experiments import comparison, emulated_links
from experiments.comparison import Network
from experiments.multinode_inference import accuracy
from experiments.multinode_inference import config as config_lib
from research.telemetry import bench

Statistic = Literal["median_us", "min_us"]


@dataclasses.dataclass(frozen=True)
class Prediction:
  """A held-out cell; times in seconds."""

  network: str
  algorithm: str
  size: int
  predicted: float
  measured: float

  @property
  def error(self) -> float:
    """Relative error, without sign."""
    return abs(self.predicted / self.measured - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
  """What the study found.

  Attributes:
    networks: what was timed, by network.
    reason: why nothing was; else empty.
    rounding: see `accuracy`.
    predictions: the cost model's, by statistic and by what was held out:
      `sizes`, `algorithms` (each in its turn) or `networks`.
    machine: the model's constants, fitted to all medians of the headline.
  """

  networks: dict[str, Network]
  reason: str
  rounding: accuracy.Rounding
  predictions: dict[Statistic, dict[str, list[Prediction]]]
  machine: cost_model.Machine | None


def analyse(
  config: config_lib.Config,
  timings: Mapping[str, Sequence[emulated_links.Pooled]],
  reason: str,
  rounding: accuracy.Rounding,
) -> Findings:
  """Fits the model and orders the rows.

  Args:
    config: the settings.
    timings: rows by network.
    reason: why there are none.
    rounding: see `accuracy`.
  """
  networks = {
    name: Network(name, {(r.algorithm, r.size): r for r in rows}, config.seed)
    for name, rows in timings.items()
  }
  headline = networks.get(config.headline.network)
  statistics: tuple[Statistic, ...] = ("median_us", "min_us")
  return Findings(
    networks=networks,
    reason=reason,
    rounding=rounding,
    predictions={
      one: _predictions(config, networks, one) for one in statistics if headline
    },
    machine=_fit(headline, _ours(headline), "median_us") if headline else None,
  )


def bench_rows(
  config: config_lib.Config, found: Findings
) -> tuple[bench.BenchResult, ...]:
  """Returns the headline's rows for the ledger; of a peer only its best.

  Args:
    config: the settings.
    found: the findings.
  """
  network = found.networks.get(config.headline.network)
  if network is None:
    return ()
  rows = []
  for size in network.sizes:
    best = [network.best(network.of_peer(p), size) for p in network.peers]
    for name in (*network.algorithms, *best):
      rows.append(comparison.bench_row(network, name, size))
  return tuple(rows)


def _predictions(
  config: config_lib.Config,
  networks: Mapping[str, Network],
  statistic: Statistic,
) -> dict[str, list[Prediction]]:
  headline = networks[config.headline.network]
  cells = _ours(headline)
  seen = [cell for cell in cells if cell[1] not in config.held_out_sizes]
  groups: dict[str, list[Prediction]] = {
    "sizes": _held_out(headline, seen, headline, cells, statistic),
    "algorithms": [],
    "networks": [],
  }
  for name in headline.algorithms:
    others = [cell for cell in cells if cell[0] != name]
    groups["algorithms"] += _held_out(
      headline, others, headline, cells, statistic
    )
  for one in config.more:
    if one.network in networks:
      other = networks[one.network]
      groups["networks"] += _held_out(
        headline, cells, other, _ours(other), statistic
      )
  return groups


def _held_out(
  fitted: Network,
  seen: Sequence[tuple[str, int]],
  other: Network,
  cells: Sequence[tuple[str, int]],
  statistic: Statistic,
) -> list[Prediction]:
  """Predicts the cells of `other` that the fit has not seen."""
  unseen = [c for c in cells if other is not fitted or c not in seen]
  if not seen or not unseen:
    return []
  machine = _fit(fitted, seen, statistic)
  return [
    Prediction(
      other.name,
      *cell,
      predicted=machine.predict(_terms(other.name, *cell)),
      measured=getattr(other.cells[cell], statistic) / 1e6,
    )
    for cell in unseen
  ]


def _fit(
  network: Network, cells: Sequence[tuple[str, int]], statistic: Statistic
) -> cost_model.Machine:
  return cost_model.fit(
    [_terms(network.name, *cell) for cell in cells],
    [getattr(network.cells[cell], statistic) / 1e6 for cell in cells],
  )


def _ours(network: Network) -> list[tuple[str, int]]:
  return [cell for cell in network.cells if ":" not in cell[0]]


@functools.cache
def _terms(network: str, algorithm: str, size: int) -> cost_model.Terms:
  links = config_lib.Links(network=network).grid
  grid = sched.Grid(links.nodes, links.per_node)
  return cost_model.terms(algorithm, "all_reduce", grid, size)
