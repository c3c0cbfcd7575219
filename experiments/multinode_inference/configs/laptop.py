"""All-reduces on emulated links, their rounding, and an engine by them, laptop.

Paper: Multi-node LLM inference, arXiv 2511.09557
Command: python -m experiments.multinode_inference.main \
  --config=experiments/multinode_inference/configs/laptop.py \
  --workdir=out/laptop
Expected: 2.5 minutes, 3 GB on 2 cores
Paper's value: NVRAR 1.9 to 3.6 times faster than NCCL, 128 KB to 2 MB
"""

from experiments.multinode_inference import config, engine_config


def get_config(arg: str = "") -> config.Config:
  """Returns the laptop settings."""
  del arg
  return config.Config(
    size="laptop",
    headline=config.Links(
      network="4x2,alpha=1ms,bw=1Gb",
      sizes=tuple(kilobytes << 10 for kilobytes in (128, 256, 512, 2048)),
      algorithms=config.MAIN,
      iters=14,
    ),
    held_out_sizes=(256 << 10,),
    accuracy=config.Accuracy(draws=2),
    engine=(
      engine_config.Job(
        name="a random decoder of width 2048",
        network="2x1,alpha=1ms,bw=1Gb",
        width=2048,
        reading="16+1",
        drawing="16+4",
        iters=10,
        cases=(
          "tp:nvrar",
          "tp:recursive_doubling",
          "hybrid:recursive_doubling",
        ),
      ),
    ),
  )
