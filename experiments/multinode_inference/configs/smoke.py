"""All-reduces on emulated links and their rounding, smoke.

Paper: Multi-node LLM inference, arXiv 2511.09557
Command: python -m experiments.multinode_inference.main \
  --config=experiments/multinode_inference/configs/smoke.py --workdir=out/smoke
Expected: 20 seconds, 1.5 GB on 2 cores
Paper's value: NVRAR 1.9 to 3.6 times faster than NCCL, 128 KB to 2 MB
"""

from experiments.multinode_inference import (
  config,
  engine_config,
  modelled_study,
)

_ENGINE = engine_config.Job(
  name="a random decoder of width 64",
  network="2x1,alpha=1ms,bw=1Gb",
  devices=1,
  layers=1,
  width=64,
  batch=4,
  pieces=64,
  reading="16+1",
  drawing="",
  cases=("tp:nvrar", "hybrid:xla"),
  iters=2,
)


def get_config(arg: str = "") -> config.Config:
  """Returns the smoke settings.

  Args:
    arg: `engine` lets two processes of an engine answer a batch, too, which
      takes as long again: each of them compiles for several seconds.
  """
  return config.Config(
    size="smoke",
    headline=config.Links(
      network="2x2,alpha=1ms,bw=1Gb",
      sizes=(8 << 10, 128 << 10),
      algorithms=("xla", "nvrar"),
      iters=4,
      warmup=1,
    ),
    held_out_sizes=(128 << 10,),
    accuracy=config.Accuracy(ranks=(4, 16, 64), numbers=1024, draws=2),
    modelled=modelled_study.Modelled(
      gpus=(8, 32), sizes=(128 << 10, 2 << 20), assumed=()
    ),
    engine=(_ENGINE,) if arg == "engine" else (),
  )
