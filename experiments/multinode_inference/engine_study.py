"""Answers batches on emulated links, strategy by strategy."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence

from experiments import comparison, emulated_links
from experiments.multinode_inference import engine_config
from experiments.tools import inference_cases
from research import runs
from research.telemetry import bench


@dataclasses.dataclass(frozen=True)
class Measured:
  """A job at one kind of work.

  Attributes:
    job: its settings.
    kind: `prefill` or `decode`: what the work is heavy in.
    network: times of a batch by case; of none without emulated links. Their
      one size is what a rank adds up in a layer's all-reduce while nobody
      reads.
    cases: the rest, by name as the network has it, `tp nvrar`; all rounds.
  """

  job: engine_config.Job
  kind: str
  network: comparison.Network
  cases: dict[str, list[inference_cases.Case]]

  @property
  def title(self) -> str:
    """What was done, for readers."""
    return (
      f"{self.job.name}, {self.job.batch} requests of "
      f"{self.job.works[self.kind]} tokens"
    )

  @property
  def size(self) -> int:
    """The one size of the network's times."""
    [size] = self.network.sizes
    return size

  def share(self, case: str, group: str) -> float:
    """Returns the share of a batch's time that something took."""
    rounds = self.cases[case]
    return sum(one.split[group] for one in rounds) / sum(
      one.profiled for one in rounds
    )


@dataclasses.dataclass(frozen=True)
class Found:
  """What the study found.

  Attributes:
    measured: every job at every kind of work.
    reason: why there are no times; empty where there are.
  """

  measured: Sequence[Measured]
  reason: str

  def of(self, network: str, kind: str) -> list[Measured]:
    """Returns what was timed on a network."""
    return [
      one
      for one in self.measured
      if (one.kind, one.job.network) == (kind, network) and one.network.cells
    ]


def run(
  jobs: Sequence[engine_config.Job], context: runs.Context, *, seed: int
) -> Found:
  """Times all jobs, on plain processes where links cannot be emulated.

  Args:
    jobs: what to time.
    context: each round is a unit of its stage `engine`.
    seed: of bootstraps.
  """
  measured, reason = [], ""
  for job in jobs:
    try:
      rounds, timed = _rounds(job, context, f"--network={job.grid}"), True
    except emulated_links.UnavailableError as error:
      alone = dataclasses.replace(job, rounds=1)
      plain = ["-n", str(job.grid.num_processes)]
      rounds, timed = _rounds(alone, context, *plain), False
      reason = str(error)
    measured += [
      _measured(job, kind, rounds, timed=timed, seed=seed) for kind in job.works
    ]
  return Found(measured, reason)


def bench_rows(found: Found) -> tuple[bench.BenchResult, ...]:
  """Returns rows for the ledger.

  Args:
    found: the findings.
  """
  rows = []
  for one in found.measured:
    for case, size in one.network.cells:
      row = comparison.bench_row(one.network, case, size)
      rows.append(dataclasses.replace(row, name=f"{one.title}, {case}"))
  return tuple(rows)


def rehearse(job: engine_config.Job) -> str:
  """Says what a job would do.

  Args:
    job: its settings.
  """
  works = ", ".join(str(work) for work in job.works.values())
  return (
    f"{job.network}: {job.name}, {job.batch} requests of {works} tokens, "
    f"{len(job.cases)} cases, {job.iters} batches, {job.rounds} times"
  )


def _rounds(
  job: engine_config.Job, context: runs.Context, *where: str
) -> list[dict]:
  launch = [
    *("-m", "research.cluster.launch", *where),
    *(f"--devices={job.devices}", "--", sys.executable),
    *("-m", "experiments.tools.time_inference"),
  ]
  what = [
    f"--mesh=node={job.grid.nodes},local={job.grid.per_node * job.devices}",
    f"--cases={','.join(job.cases)}",
    f"--works={','.join(str(work) for work in job.works.values())}",
    *(f"--first_layers={job.layers}", f"--embed={job.width}"),
    *(f"--batch={job.batch}", f"--pieces={job.pieces}"),
    *(f"--iters={job.iters}", f"--warmup={job.warmup}"),
  ]
  # Another question is another unit; where the weights lie is none.
  question = json.dumps([where, job.model, job.devices, what])
  digest = hashlib.sha256(question.encode()).hexdigest()[:8]
  command = [*launch, *what, *_weights(job)]
  done = context.units("engine").map(
    [f"{digest}.{index}" for index in range(job.rounds)],
    lambda _: {"found": json.dumps(emulated_links.answer(command))},
  )
  return [json.loads(str(unit["found"])) for unit in done.values()]


def _weights(job: engine_config.Job) -> list[str]:
  if not job.model:
    return []
  from experiments import models  # here: importing a decoder takes a second

  return [f"--weights={models.fetch(job.model)}"]


def _measured(
  job: engine_config.Job,
  kind: str,
  rounds: Sequence[dict],
  *,
  timed: bool,
  seed: int,
) -> Measured:
  work = str(job.works[kind])
  own: list[list[dict]] = []
  cases: dict[str, list[inference_cases.Case]] = {}
  for one in rounds:
    rows = []
    for row, found in zip(one["rows"], one["cases"], strict=True):
      case = inference_cases.Case(**found)
      if case.work == work:
        name = case.name.replace(":", " ")  # a colon would make it a peer
        rows.append(row | {"algorithm": name})
        cases.setdefault(name, []).append(case)
    own.append(rows)
  pooled = emulated_links.pool(own) if timed else []
  cells = {(row.algorithm, row.size): row for row in pooled}
  network = comparison.Network(job.network, cells, seed)
  return Measured(job, kind, network, cases)
