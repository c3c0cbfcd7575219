"""Times parts of the codebase beside their peers and the machine's limits.

  python -m experiments.tools.bench --suite=decode

Suites:
  decode: a SmolLM2 step in float32 at batch 1 and 8, after 128 tokens.
  prefill: a SmolLM2 prompt of 512 tokens in float32.
  serve: the engine on SmolLM2 in float32: one batch, and requests of ShareGPT's
    lengths with 1, 8 and 32 in flight, with latencies and goodput.
  memory: peak memory of loading and generating, and compilations after the
    first generation.
  attention: one layer's decode attention at 8k to 128k tokens, by the share of
    value rows that is kept.
  select: finding the rows to keep, by a threshold that is known and by ranking.
  policy: predicting the threshold and learning from a step, beside attention
    at 8k tokens.
  epidemic: EpiCast with and without fear beside four rivals, by size and on
    two cores; with `--census=FOLDER` the Bay Area's 6.8 million people.
  nation: bytes of 330 million agents on one device and on eight, compiled; with
    XLA_FLAGS=--xla_force_host_platform_device_count=8.

Decode, prefill and serve stand beside Hugging Face transformers and llama.cpp,
serve beside OpenVINO GenAI too, on two threads each; those run in `.venv-peers`
(`make peers`), without which their rows say that they are unavailable; torch's
attention does so too.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import rich.console
from absl import flags

from experiments.tools import (
  bench_attention,
  bench_decoder,
  bench_epidemic,
  bench_nation,
  bench_selection,
  bench_serve,
)
from research import runs
from research.telemetry import bench_table

_SUITES = {
  "decode": bench_decoder.decode,
  "prefill": bench_decoder.prefill,
  "serve": bench_serve.serve,
  "attention": bench_attention.attend,
  "select": bench_selection.select,
  "policy": bench_selection.policy,
  "epidemic": bench_epidemic.epidemic,
  "nation": bench_nation.nation,
}
_SUITE = flags.DEFINE_enum(
  "suite", "decode", [*_SUITES, "memory"], "What to measure."
)
_ROUNDS = flags.DEFINE_integer("rounds", 12, "Timed rounds.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Also write the rows to this file.")


def main(argv: Sequence[str]) -> None:
  """Runs a suite and prints its rows."""
  del argv
  console = rich.console.Console(width=150)
  if _SUITE.value == "memory":
    report = bench_decoder.memory_report()
    for name, value in report.items():
      console.print(f"{name}: {value}")
    _write(report)
    return
  rows = []
  for title, group in _SUITES[_SUITE.value](rounds=_ROUNDS.value):
    console.print(f"[bold]{title}[/bold]")
    console.print(bench_table.table(group))
    for row in group:
      if told := bench_table.notes(row):
        console.print(f"  {row.name}: {told}")
    rows += [dataclasses.asdict(row) | {"title": title} for row in group]
  _write(rows)


def _write(value: object) -> None:
  if _JSON.value:
    text = json.dumps(value, indent=2)
    pathlib.Path(_JSON.value).write_text(text + "\n")


if __name__ == "__main__":
  runs.launch(main)
