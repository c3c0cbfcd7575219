"""From timed calls and steps to what claims and figures share."""

import dataclasses
from collections.abc import Iterable, Sequence

from collectives import algorithms
from experiments import comparison, emulated_links
from experiments.pccl import config as config_lib
from experiments.pccl import training
from experiments.tools import timed_training
from research.telemetry import bench

#: What the claims are about.
OURS = "pccl_recursive"


@dataclasses.dataclass(frozen=True)
class Swept:
  """A sweep and what it gave.

  Attributes:
    sweep: its settings.
    cells: its times; empty where links cannot be emulated.
  """

  sweep: config_lib.Sweep
  cells: comparison.Network

  def flat(self) -> list[str]:
    """Returns the algorithms that know nothing of nodes, `xla` among them."""
    return [name for name in self.sweep.names if not two_level(name)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
  """What the study found.

  Attributes:
    swept: every sweep, in the order of the settings.
    reason: why they have no times; empty where they have.
    steps: times of training steps by case; its one size is that of the
      parameters, in bytes.
    steps_reason: why there are none; empty where there are.
    cases: losses and bytes by case, of each round.
  """

  swept: list[Swept]
  reason: str
  steps: comparison.Network
  steps_reason: str
  cases: dict[str, list[timed_training.Case]]


def analyse(
  config: config_lib.Config,
  rows: Sequence[Sequence[emulated_links.Pooled]],
  reason: str,
  trained: training.Trained,
) -> Findings:
  """Orders the rows.

  Args:
    config: the settings.
    rows: of each sweep; of none where links cannot be emulated.
    reason: why there are none.
    trained: what training gave.
  """

  def cells(name: str, own: Iterable[emulated_links.Pooled]):
    by_place = {(row.algorithm, row.size): row for row in own}
    return comparison.Network(name, by_place, config.seed)

  return Findings(
    swept=[
      Swept(one, cells(one.network, rows[i] if rows else ()))
      for i, one in enumerate(config.sweeps)
    ],
    reason=reason,
    # A colon would make a case a peer.
    steps=cells(
      config.training.network,
      [
        dataclasses.replace(row, algorithm=case_name(row.algorithm))
        for row in trained.rows
      ],
    ),
    steps_reason=trained.reason,
    cases=trained.cases,
  )


def case_name(case: str) -> str:
  """Returns how a case is written for readers.

  Example:
    >>> case_name("zero3:ring")
    'zero3 ring'
  """
  return case.replace(":", " ")


def two_level(algorithm: str) -> bool:
  """Returns whether an algorithm knows of nodes.

  Example:
    >>> two_level("pccl_ring"), two_level("ring"), two_level("xla")
    (True, False, False)
  """
  return algorithm != "xla" and algorithms.ALGORITHMS[algorithm].hierarchical


def bench_rows(
  config: config_lib.Config, found: Findings
) -> tuple[bench.BenchResult, ...]:
  """Returns all rows for the ledger, the headline's first.

  Args:
    config: the settings.
    found: the findings.
  """
  rows = []
  for one in found.swept:
    where = "" if one.sweep.network == config.headline else one.sweep.network
    for size in one.cells.sizes:
      for name in one.cells.algorithms:
        row = comparison.bench_row(one.cells, name, size)
        what = f"{one.sweep.collective.replace('_', '-')} {row.name} {where}"
        rows.append(dataclasses.replace(row, name=what.rstrip()))
  for size in found.steps.sizes:
    for name in found.steps.algorithms:
      row = comparison.bench_row(found.steps, name, size)
      rows.append(dataclasses.replace(row, name=f"step {name}"))
  return tuple(rows)
