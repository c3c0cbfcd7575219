"""Runs the kernels on this machine's GPU: are they right, and how fast?

  python -m experiments.tools.ladder

Every shape of `threshold_attention.shapes` is checked against the reference and
timed beside JAX's own attention and beside a plain read of the same bytes;
every shape of `hierarchical_all_reduce.shapes`, on two GPUs or more, against
numpy's sum and beside `lax.psum`. The result is `results/gpu-<device>.json`.
Without a GPU it says so, and measures nothing: the tests of `kernels_pallas`
prove what can be proved there.
"""

import json
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import rich.console
from absl import flags

from experiments.tools import (
  ladder_all_reduce,
  ladder_attention,
  ladder_rungs,
)
from kernels_pallas.hierarchical_all_reduce import shapes as reduced
from kernels_pallas.threshold_attention import shapes as attended
from research import runs
from research.cluster import probe
from research.telemetry import bench, bench_table

_REPORT_DIR = flags.DEFINE_string(
  "report_dir", "results", "Folder of the report."
)
_COMMAND = "python -m experiments.tools.ladder"
_ROUNDS = 10
_MOST_SECONDS = 240.0  # no shape starts later: `make gpu` ends in 5 minutes


def main(argv: Sequence[str]) -> int:
  """Checks and times; 1 if a kernel is wrong."""
  del argv
  console = rich.console.Console(width=150)
  device = find_gpu()
  if device is None:
    console.print(
      f"no GPU: got {jax.default_backend()}, expected gpu (with one, install "
      f"jax[cuda13]=={jax.__version__} into .venv); nothing was measured",
      markup=False,
      soft_wrap=True,
    )
    return 0
  # First what is over soon where there is one GPU.
  rungs = ladder_all_reduce.rungs(reduced.SHAPES)
  rungs += ladder_attention.rungs(attended.SHAPES)
  report = climb(rungs, console)
  report["device"] = device
  path = report_path(pathlib.Path(_REPORT_DIR.value), device)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
  console.print(f"wrote {path}")
  wrong = [row for row in report["checks"] if row["holds"] is False]
  return 1 if wrong else 0


def find_gpu() -> str | None:
  """Returns the name of the GPU that JAX sees, if any."""
  if jax.default_backend() != "gpu":
    return None
  return jax.devices()[0].device_kind


def report_path(folder: pathlib.Path, device: str) -> pathlib.Path:
  """Returns the file of a device.

  Args:
    folder: of all reports.
    device: its name.

  Example:
    >>> report_path(pathlib.Path("results"), "NVIDIA H100 80GB HBM3").name
    'gpu-nvidia-h100-80gb-hbm3.json'
  """
  slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
  return folder / f"gpu-{slug}.json"


def climb(
  rungs: Sequence[ladder_rungs.Rung],
  console: rich.console.Console,
  *,
  rounds: int = _ROUNDS,
  most_seconds: float = _MOST_SECONDS,
) -> dict[str, Any]:
  """Checks the kernels at every shape, and times them.

  Args:
    rungs: operations and shapes.
    console: where rows are shown as they come.
    rounds: timed rounds.
    most_seconds: after which shapes are left out, and listed.

  Returns:
    The report: checks, bench rows, and what was left out for lack of time.
  """
  start = time.perf_counter()
  checks: list[dict[str, Any]] = []
  timed: list[dict[str, Any]] = []
  late: list[str] = []
  for rung in rungs:
    if time.perf_counter() - start > most_seconds:
      late.append(rung.name)
      continue
    for row in rung.checks():
      console.print(_line(rung, row), markup=False)
      checks.append({"shape": rung.name, **row._asdict()})
    if candidates := rung.candidates():
      rows = _bench(candidates, rounds)
      console.print(f"[bold]{rung.name}[/bold]", bench_table.table(rows))
      timed += [row.to_json() | {"shape": rung.name} for row in rows]
  return {
    "command": _COMMAND,
    "machine": probe.machine(),
    "shapes": {x.name: {"operation": x.operation, **x.sizes} for x in rungs},
    "checks": checks,
    "bench": timed,
    "out_of_time": late,
  }


def _bench(
  candidates: Mapping[str, Callable[[], Any]], rounds: int
) -> list[bench.BenchResult]:
  return bench.interleave(
    candidates,
    rounds=rounds,
    work=float(ladder_rungs.CALLS),
    command=_COMMAND,
  )


def _line(rung: ladder_rungs.Rung, row: ladder_rungs.Check) -> str:
  verdict = {
    True: "right",
    False: f"WRONG: {row.error}",
    None: f"not here: {row.error}",
  }
  return f"{rung.name} {row.kernel}, {row.case}: {verdict[row.holds]}"


if __name__ == "__main__":
  runs.launch(main)
