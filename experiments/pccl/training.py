"""Trains a small decoder on emulated links, algorithm by algorithm."""

import dataclasses
import hashlib
import json
import sys

from experiments import emulated_links
from experiments.pccl import config as config_lib
from experiments.tools import timed_training
from research import runs


@dataclasses.dataclass(frozen=True)
class Trained:
  """What training gave.

  Attributes:
    rows: times of a step by case, over all rounds that count; none without
      emulated links.
    cases: losses and bytes by name; all rounds.
    reason: why there are no times; empty where there are.
  """

  rows: list[emulated_links.Pooled]
  cases: dict[str, list[timed_training.Case]]
  reason: str


def run(settings: config_lib.Training, context: runs.Context) -> Trained:
  """Trains by all cases, on plain processes where links cannot be emulated.

  Args:
    settings: of the training.
    context: each round is a unit of its stage `training`.
  """
  try:
    rounds = _rounds(settings, context, f"--network={settings.grid}")
    rows = emulated_links.pool([one["rows"] for one in rounds])
    return Trained(rows, _cases(rounds), "")
  except emulated_links.UnavailableError as error:
    alone = dataclasses.replace(settings, rounds=1)
    job = ["-n", str(settings.grid.num_processes)]
    return Trained([], _cases(_rounds(alone, context, *job)), str(error))


def _rounds(
  settings: config_lib.Training, context: runs.Context, *job: str
) -> list[dict]:
  command = [
    *("-m", "research.cluster.launch", *job),
    *(f"--devices={settings.devices}", "--", sys.executable),
    *("-m", "experiments.tools.time_train_step"),
    f"--mesh=node={settings.grid.nodes}"
    f",local={settings.grid.per_node * settings.devices}",
    f"--cases={','.join(settings.cases)}",
    *(f"--layers={settings.layers}", f"--width={settings.width}"),
    f"--row_tokens={settings.row_tokens}",
    *(f"--iters={settings.iters}", f"--warmup={settings.warmup}"),
  ]
  digest = hashlib.sha256(json.dumps(command).encode()).hexdigest()[:8]
  done = context.units("training").map(
    [f"{digest}.{index}" for index in range(settings.rounds)],
    lambda _: {"found": json.dumps(emulated_links.answer(command))},
  )
  return [json.loads(str(unit["found"])) for unit in done.values()]


def _cases(rounds: list[dict]) -> dict[str, list[timed_training.Case]]:
  found: dict[str, list[timed_training.Case]] = {}
  for one in rounds:
    for case in one["cases"]:
      losses = {"losses": tuple(case["losses"])}
      found.setdefault(case["name"], []).append(
        timed_training.Case(**case | losses)
      )
  return found
