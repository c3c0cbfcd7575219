"""All-reduces on emulated links and their rounding, full.

Paper: Multi-node LLM inference, arXiv 2511.09557
Command: python -m experiments.multinode_inference.main \
  --config=experiments/multinode_inference/configs/full.py --workdir=out/full
Expected: 16 minutes, 3 GB on 2 cores
Paper's value: NVRAR 1.9 to 3.6 times faster than NCCL, 128 KB to 2 MB
"""

from experiments import dispatched
from experiments.multinode_inference import config, modelled_study

_HEADLINE = (8, 128, 256, 512, 1024, 2048, 8192)
_BAND = (128, 256, 512, 1024, 2048)
_MORE = (128, 512, 2048)


def get_config(arg: str = "") -> config.Config:
  """Returns the full settings."""
  del arg
  peers = ("openmpi", "openmpi-eager")
  return config.Config(
    size="full",
    headline=config.Links(
      network="4x2,alpha=1ms,bw=1Gb",
      sizes=_bytes(_HEADLINE),
      iters=12,
      warmup=1,
      rounds=2,
      peers=peers,
    ),
    fast=config.Links(
      network="4x2,alpha=5ms,bw=10Gb",
      sizes=_bytes(_BAND),
      iters=16,
      warmup=1,
      peers=peers,
    ),
    more=tuple(
      config.Links(
        network=f"{grid},alpha=1ms,bw=1Gb",
        sizes=_bytes(_MORE),
        algorithms=config.MAIN,
        iters=16,
        warmup=1,
      )
      for grid in ("2x4", "8x1")
    ),
    modelled=modelled_study.Modelled(
      choice=tuple(
        dispatched.Machine(
          name=machine,
          nodes=(2, 4, 8, 16, 32),
          sizes=tuple(1 << power for power in range(12, 27)),
        )
        for machine in modelled_study.NAMES
      )
    ),
  )


def _bytes(kilobytes: tuple[int, ...]) -> tuple[int, ...]:
  return tuple(one << 10 for one in kilobytes)
