"""Times an engine whose weights are divided in several ways.

  python -m research.cluster.launch --network=4x1,alpha=1ms,bw=1Gb --devices=2 \
    -- python -m experiments.tools.time_inference --mesh=node=4,local=2 \
    --cases=tp:nvrar,tp:ring,hybrid:xla,pp:xla --works=128+2,16+16

A case is a strategy (`tp`: matrices over all ranks, `pp`: layers over all
ranks, `hybrid`: layers over nodes and matrices within them) with an all-reduce.
All of them answer the same batch, and take turns batch by batch; of each batch
the slowest process counts. Then one batch each is recorded, to say where its
time goes, and whether all cases draw the same tokens. Times are to be compared
within one run only.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from absl import flags

from experiments.tools import (
  bench_collectives,
  inference_cases,
  timed_collectives,
)
from research import cluster, runs

_CASES = flags.DEFINE_list(
  "cases", ["tp:nvrar", "tp:xla"], "What to time, STRATEGY:ALGORITHM each."
)
_WORKS = flags.DEFINE_list(
  "works", ["128+2", "16+16"], "Tokens that a request reads + draws."
)
_WEIGHTS = flags.DEFINE_string(
  "weights", "", "GGUF file; without it a random decoder of `embed`."
)
_LAYERS = flags.DEFINE_integer(
  "first_layers", 2, "How many there are, or are kept.", lower_bound=1
)
_EMBED = flags.DEFINE_integer(
  "embed", 64, "Of a random decoder; a multiple of 16.", lower_bound=16
)
_BATCH = flags.DEFINE_integer("batch", 16, "Requests.", lower_bound=1)
_PIECES = flags.DEFINE_integer(
  "pieces", 256, "Tokens of prompts that a step reads.", lower_bound=16
)


def main(argv: Sequence[str]) -> None:
  """Times all cases; process 0 prints and writes."""
  del argv
  import jax

  from experiments.tools import timed_inference, timed_models
  from research.transformer.checkpoints import gguf

  works = tuple(inference_cases.parse_work(one) for one in _WORKS.value)
  if _WEIGHTS.value:
    whole = gguf.load(pathlib.Path(_WEIGHTS.value))
    model = timed_models.first_layers(whole, _LAYERS.value)
  else:
    model = timed_models.wide(_LAYERS.value, _EMBED.value)
  bench = timed_inference.Bench(
    **bench_collectives.settings() | {"algorithms": tuple(_CASES.value)},
    shape=timed_collectives.parse_mesh(flags.FLAGS.mesh),
    model=model,
    batch=_BATCH.value,
    works=works,
    pieces=_PIECES.value,
  )
  rows, cases = bench.cases()
  if jax.process_index() != 0:
    return
  print(f"# {bench.transport}")
  print("# work, case: median, fastest batch (ms), steps; shares of time")
  for row, case in zip(rows, cases, strict=True):
    shares = " ".join(
      f"{group} {100 * seconds / case.profiled:.0f} %"
      for group, seconds in case.split.items()
    )
    print(
      f"{case.work:8} {case.name:24} {row.median_us / 1e3:9.1f}"
      f" {row.min_us / 1e3:9.1f} {case.steps:4} {shares}"
    )
  bench_collectives.keep(
    {
      "rows": [row.to_json() for row in rows],
      "cases": [dataclasses.asdict(case) for case in cases],
    }
  )


if __name__ == "__main__":
  cluster.setup()
  runs.launch(main)
