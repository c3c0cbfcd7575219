"""All-reduces on emulated links, their rounding, and an engine by them, full.

Paper: Multi-node LLM inference, arXiv 2511.09557
Command: python -m experiments.multinode_inference.main \
  --config=experiments/multinode_inference/configs/full.py --workdir=out/full
Expected: 16 minutes, 3 GB on 2 cores; the engine comes on top, not timed yet
Paper's value: NVRAR 1.9 to 3.6 times faster than NCCL, 128 KB to 2 MB
"""

from experiments import dispatched
from experiments.multinode_inference import (
  config,
  engine_config,
  modelled_study,
)

_HEADLINE = (8, 128, 256, 512, 1024, 2048, 8192)
_BAND = (128, 256, 512, 1024, 2048)
_MORE = (128, 512, 2048)

_FAR = "4x1,alpha=1ms,bw=1Gb"
_FAST = "4x1,alpha=5ms,bw=10Gb"
# Of a decoder with fewer layers than there are ranks.
_NO_PIPELINE_OF_RANKS = tuple(
  case for case in engine_config.CASES if case != "pp:xla"
)


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
    engine=(
      engine_config.Job(
        name="SmolLM2 135M",
        network=_FAR,
        model="smollm2-135m",
        layers=30,
        reading="64+2",
      ),
      # All-reduces of 128 KB, 1 MB and 2 MB while nobody reads.
      _wide(_FAR, width=2048, batch=16),
      _wide(_FAR, width=4096, batch=64),
      _wide(_FAR, width=8192, batch=64, layers=4, cases=_NO_PIPELINE_OF_RANKS),
      _wide(_FAST, width=2048, batch=16),
      _wide(_FAST, width=4096, batch=64),
    ),
  )


def _wide(
  network: str, *, width: int, batch: int, layers: int = 8, **fields
) -> engine_config.Job:
  return engine_config.Job(
    name=f"a random decoder of width {width}",
    network=network,
    layers=layers,
    width=width,
    batch=batch,
    pieces=16 * batch,
    reading="64+2",
    **fields,
  )


def _bytes(kilobytes: tuple[int, ...]) -> tuple[int, ...]:
  return tuple(one << 10 for one in kilobytes)
