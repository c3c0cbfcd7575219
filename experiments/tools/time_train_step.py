"""Times steps of training whose collectives are chosen by name.

  python -m research.cluster.launch --network=4x2,alpha=1ms,bw=1Gb --devices=1 \
    -- python -m experiments.tools.time_train_step \
    --cases=zero3:xla,zero3:ring,zero3:pccl_recursive,ddp:xla,ddp:nvrar

A case is a kind of training (`ddp`, `zero3`) with an algorithm. All of them
train the same small decoder on the same batch, from the same start, and take
turns step by step; in each step the slowest process counts. Beside the times
stand the losses and the bytes of the compiled step: what a rank sends on
average, and what leaves a node. Times are to be compared within one run only.
"""

import dataclasses
from collections.abc import Sequence

from absl import flags

from experiments.tools import bench_collectives, timed_collectives
from research import cluster, runs
from research.runs import compilation
from research.transformer import config as config_lib

_CASES = flags.DEFINE_list(
  "cases", ["zero3:xla", "ddp:xla"], "What to train with, KIND:ALGORITHM each."
)
_LAYERS = flags.DEFINE_integer("layers", 4, "Of the decoder.", lower_bound=1)
_WIDTH = flags.DEFINE_integer(
  "width", 64, "Of the decoder; a multiple of 8.", lower_bound=8
)
_ROW_TOKENS = flags.DEFINE_integer(
  "row_tokens", 32, "Tokens of the one row that a rank has.", lower_bound=2
)

_VOCABULARY = 256
_HEADS = 4


def main(argv: Sequence[str]) -> None:
  """Times all cases; process 0 prints and writes."""
  del argv
  import jax

  from experiments.tools import timed_training

  compilation.keep()
  settings = bench_collectives.settings()
  bench = timed_training.Bench(
    **settings
    | {"collective": "all_reduce", "op": "mean"}
    | {"algorithms": tuple(_CASES.value)},
    shape=timed_collectives.parse_mesh(flags.FLAGS.mesh),
    model=model(_LAYERS.value, _WIDTH.value, _ROW_TOKENS.value),
    rows_per_rank=1,
    tokens=_ROW_TOKENS.value,
  )
  rows, cases = bench.cases()
  if jax.process_index() != 0:
    return
  print(f"# {bench.transport}")
  print("# case: median, fastest step (ms); bytes of a rank, of a node's port")
  for row, case in zip(rows, cases, strict=True):
    print(
      f"{case.name:24} {row.median_us / 1e3:9.1f} {row.min_us / 1e3:9.1f}"
      f" {case.rank_bytes:12.0f} {case.port_bytes:12.0f}"
    )
  bench_collectives.keep(
    {
      "rows": [row.to_json() for row in rows],
      "cases": [dataclasses.asdict(case) for case in cases],
    }
  )


def model(layers: int, width: int, tokens: int) -> config_lib.DecoderConfig:
  """Returns a decoder of the usual proportions, with grouped-query attention.

  Args:
    layers: blocks.
    width: of the residual stream, a multiple of 8.
    tokens: of the longest row.
  """
  return config_lib.DecoderConfig(
    vocab_size=_VOCABULARY,
    embed_dim=width,
    num_layers=layers,
    num_heads=_HEADS,
    num_kv_heads=_HEADS // 2,
    head_dim=width // _HEADS,
    mlp_dim=3 * width,
    context_length=tokens,
  )


if __name__ == "__main__":
  cluster.setup()
  runs.launch(main)
