"""Learns from timings what `algorithm="auto"` takes, and writes it to a file.

  python -m experiments.tools.tune_collectives --choices=here.json \
    --timings=4x2:out/all_reduce.json --timings=2x2:out/small.json

reads what `bench_collectives --json` wrote on 4 nodes of 2 ranks and on 2 of 2;
the same for other collectives goes into the same file. For a machine that is
not at hand,

  python -m experiments.tools.tune_collectives --choices=perlmutter.json \
    --simulate=perlmutter --node_counts=2,4,8,16

simulates it: what that writes is modelled. Both print first how well the choice
does on blocks of grids and sizes that were held out: learned from every other
iteration and judged by the rest, or, where simulated, with noise.

Use it with DECTET_COLLECTIVES_CHOICES=here.json.
"""

import dataclasses
import datetime
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
from absl import flags

from collectives import algorithms, machines
from collectives import schedule as sched
from collectives.dispatch import (
  cells,
  choices,
  evaluation,
  simulated,
  tuning,
)
from experiments.tools import timed_collectives
from research import runs
from research.runs import experiment

_TIMINGS = flags.DEFINE_multi_string(
  "timings", [], "NODESxRANKS:FILE of what bench_collectives measured."
)
_SIMULATE = flags.DEFINE_enum(
  "simulate", None, machines.names(), "A machine to simulate instead."
)
_NODE_COUNTS = flags.DEFINE_list(
  "node_counts", ["2", "4", "8", "16"], "Nodes to simulate."
)
_SMALLEST = flags.DEFINE_string("smallest", "4K", "Bytes to simulate from.")
_LARGEST = flags.DEFINE_string("largest", "64M", "Bytes to simulate to.")
_LEARNER = flags.DEFINE_enum(
  "learner", "table", ["table", "svm"], "What learns."
)
_CHOICES = flags.DEFINE_string("choices", None, "File to write.", required=True)

_DTYPES = ("bfloat16", "float16", "float32")  # of equal bytes, equal times
_SEED = 0
_Row = tuple[sched.Grid, dict[str, Any]]


class Timed(NamedTuple):
  """Timings of one collective of some dtypes.

  Attributes:
    collective: what was timed.
    all: the cells, by all iterations.
    learn: by some of them, or with noise.
    judge: by the others, or without noise.
    dtypes: of the arrays.
    gloo: whether `"xla"` is gloo.
  """

  collective: sched.Collective
  all: list[cells.Cell]
  learn: list[cells.Cell]
  judge: list[cells.Cell]
  dtypes: tuple[str, ...]
  gloo: bool


def main(argv: Sequence[str]) -> int:
  """Learns and writes."""
  del argv
  name = _SIMULATE.value
  try:
    if bool(_TIMINGS.value) == bool(name):
      raise ValueError(
        "got neither or both of --timings and --simulate, expected one of them"
      )
    timed, source = _simulate(name) if name else _read()
    learned, scores = _learn(timed)
  except ValueError as error:
    mistake = runs.UserError(str(error))
    mistake.__cause__ = error
    return experiment.report_user_error(mistake)
  provenance = {
    **source,
    "learner": _LEARNER.value,
    "held_out": scores,
    "jax": jax.__version__,
    "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
  }
  choices.Choices(learned, provenance).save(_CHOICES.value)
  print(f"wrote {_CHOICES.value}")
  return 0


def _learn(
  timed: Sequence[Timed],
) -> tuple[dict[sched.Collective, tuple[choices.Part, ...]], dict[str, Any]]:
  parts: dict[sched.Collective, tuple[choices.Part, ...]] = {}
  scores = {}
  for one in timed:
    found = evaluation.evaluate(
      one.collective,
      one.learn,
      one.judge,
      compare=(evaluation.GLOO_LEARNERS if one.gloo else evaluation.LEARNERS),
    )
    what = f"{one.collective} of {', '.join(one.dtypes)}"
    print(f"# {what}, blocks of 2 numbers of nodes x 2 sizes held out")
    print(report(found), flush=True)
    scores[what] = {
      name: dataclasses.asdict(score) for name, score in found.items()
    }
    part = tuning.train(
      one.collective,
      one.all,
      evaluation.LEARNERS[_LEARNER.value],
      dtypes=one.dtypes,
      gloo=one.gloo,
    )
    parts[one.collective] = (*parts.get(one.collective, ()), part)
  return parts, scores


def report(scores: Mapping[str, evaluation.Score]) -> str:
  """Returns a table: a line for each way to choose.

  Args:
    scores: of each of them.
  """
  lines = ["chosen by      top-1  strict    regret     worst    tied"]
  for name, one in scores.items():
    lines.append(
      f"{name:<12}{one.top1:>8.1%}{one.strict:>8.1%}{one.mean_regret:>10.2%}"
      f"{one.worst_regret:>10.1%}{f'{one.tied}/{one.cells}':>8}"
    )
  return "\n".join(lines)


def _read() -> tuple[list[Timed], dict[str, Any]]:
  """Reads `--timings`."""
  groups: dict[tuple[sched.Collective, str], list[_Row]] = {}
  files, links = {}, set()
  for entry in _TIMINGS.value:
    match = re.fullmatch(r"(\d+)x(\d+):(.+)", entry)
    if not match:
      raise ValueError(
        f"--timings: got {entry!r}, expected such as 4x2:out/rows.json"
      )
    data = _bytes(match[3])
    files[pathlib.Path(match[3]).name] = hashlib.sha256(data).hexdigest()
    for row in json.loads(data):
      own = groups.setdefault((row["collective"], row["dtype"]), [])
      own.append((sched.Grid(int(match[1]), int(match[2])), row))
      links.add(row["transport"])
  _check_links(links)
  timed = [_timed(*key, rows) for key, rows in sorted(groups.items())]
  return timed, {"source": "measured", "files": files, "links": sorted(links)}


def _bytes(path: str) -> bytes:
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(
      f"--timings: got {path!r}, which cannot be read ({error.strerror}); "
      "write it with bench_collectives --json"
    ) from error


def _check_links(links: set[str]) -> None:
  if any("no transport" in one for one in links):
    raise ValueError(
      "--timings: got times of devices of one process, expected those of a "
      "job: start bench_collectives by research.cluster.launch"
    )


def _timed(
  collective: sched.Collective, dtype: str, rows: Sequence[_Row]
) -> Timed:
  grids = dict.fromkeys(grid for grid, _ in rows)

  def read(part):
    return [
      cell
      for grid in grids
      for cell in cells.read([r for g, r in rows if g == grid], grid, part)
    ]

  return Timed(
    collective,
    read(slice(None)),
    read(slice(0, None, 2)),
    read(slice(1, None, 2)),
    (dtype,),
    gloo=all("cpu devices" in row["transport"] for _, row in rows),
  )


def _simulate(name: str) -> tuple[list[Timed], dict[str, Any]]:
  """Simulates a machine."""
  profile = machines.load(name)
  sizes = timed_collectives.sizes(
    timed_collectives.parse_bytes(_SMALLEST.value),
    timed_collectives.parse_bytes(_LARGEST.value),
    2,
  )
  nodes = [int(count) for count in _NODE_COUNTS.value]
  rng = np.random.default_rng(_SEED)
  timed = []
  for collective in get_args(sched.Collective):
    names = _candidates(profile, collective)
    truth = simulated.simulate(profile, collective, names, nodes, sizes)
    noisy = cells.noisy(truth, rng)
    timed.append(Timed(collective, truth, noisy, truth, _DTYPES, gloo=False))
  return timed, {"source": "modelled", "machine": str(profile).splitlines()}


def _candidates(
  profile: machines.Profile, collective: sched.Collective
) -> list[str]:
  names = [
    name
    for name in algorithms.names(collective)
    if profile["ranks"] > 1 or not cells.hierarchical(name)
  ]
  modelled = profile.vendor == "nccl" or collective != "all_reduce"
  return ["xla", *names] if modelled else names


if __name__ == "__main__":
  runs.launch(main)
