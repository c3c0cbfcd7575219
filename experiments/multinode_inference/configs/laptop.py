"""All-reduces on emulated links and their rounding, laptop.

Paper: Multi-node LLM inference, arXiv 2511.09557
Command: python -m experiments.multinode_inference.main \
  --config=experiments/multinode_inference/configs/laptop.py \
  --workdir=out/laptop
Expected: 2 minutes, 3 GB on 2 cores
Paper's value: NVRAR 1.9 to 3.6 times faster than NCCL, 128 KB to 2 MB
"""

from experiments.multinode_inference import config


def get_config(arg: str = "") -> config.Config:
  """Returns the laptop settings."""
  del arg
  return config.Config(
    size="laptop",
    headline=config.Links(
      network="4x2,alpha=1ms,bw=1Gb",
      sizes=tuple(kilobytes << 10 for kilobytes in (128, 256, 512, 1024, 2048)),
      algorithms=config.MAIN,
    ),
    accuracy=config.Accuracy(draws=2),
  )
