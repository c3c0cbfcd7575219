"""Runs the kernels on this machine's GPU: are they right, and how fast?

  python -m experiments.tools.ladder

Every shape of `threshold_attention.shapes` is checked against the reference and
timed beside JAX's own attention and beside a plain read of the same bytes. The
result is `results/gpu-<device>.json`. Without a GPU it says so, and measures
nothing: the tests of `kernels_pallas` prove what can be proved there.
"""

import dataclasses
import json
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
import rich.console
from absl import flags

from experiments.tools import ladder_cases
from kernels_pallas.threshold_attention import shapes
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
  report = climb(shapes.SHAPES, ladder_cases.KERNELS, console)
  report["device"] = device
  path = report_path(pathlib.Path(_REPORT_DIR.value), device)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
  console.print(f"wrote {path}")
  return 0 if all(row["holds"] for row in report["checks"]) else 1


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
  chosen: Sequence[shapes.Shape],
  kernels: ladder_cases.Kernels,
  console: rich.console.Console,
  *,
  rounds: int = _ROUNDS,
  most_seconds: float = _MOST_SECONDS,
) -> dict[str, Any]:
  """Checks every shape, then times those of one query a row.

  Args:
    chosen: the shapes.
    kernels: implementations by name.
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
  for shape in chosen:
    if time.perf_counter() - start > most_seconds:
      late.append(shape.name)
      continue
    inputs = ladder_cases.make(shape)
    for row in ladder_cases.check(inputs, kernels):
      checks.append({"shape": shape.name, **row})
      console.print(_line(checks[-1]), markup=False)
    if shape.queries == 1:
      rows = _bench(inputs, kernels, rounds)
      console.print(f"[bold]{shape.name}[/bold]", bench_table.table(rows))
      timed += [row.to_json() | {"shape": shape.name} for row in rows]
  return {
    "command": _COMMAND,
    "machine": probe.machine(),
    "shapes": {x.name: dataclasses.asdict(x) for x in chosen},
    "checks": checks,
    "bench": timed,
    "out_of_time": late,
  }


def _bench(
  inputs: ladder_cases.Inputs, kernels: ladder_cases.Kernels, rounds: int
) -> list[bench.BenchResult]:
  return bench.interleave(
    ladder_cases.candidates(inputs, kernels),
    rounds=rounds,
    work=float(ladder_cases.CALLS),
    command=_COMMAND,
  )


def _line(row: dict[str, Any]) -> str:
  verdict = "right" if row["holds"] else f"WRONG: {row['error']}"
  return f"{row['shape']} {row['kernel']}, {row['case']}: {verdict}"


if __name__ == "__main__":
  runs.launch(main)
