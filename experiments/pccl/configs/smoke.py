"""All-gathers and training steps on emulated links, smoke.

Paper: PCCL, arXiv 2504.18658
Command: python -m experiments.pccl.main \
  --config=experiments/pccl/configs/smoke.py --workdir=out/smoke
Expected: 20 seconds, 1.5 GB on 2 cores
Paper's value: all-gather 6 to 33 times over RCCL on 2,048 GCDs
"""

from experiments.pccl import config, modelled_config

_NETWORK = "2x1,alpha=1ms,bw=1Gb"


def get_config(arg: str = "") -> config.Config:
  """Returns the smoke settings: two nodes, each one process of two ranks."""
  del arg
  return config.Config(
    size="smoke",
    sweeps=(
      config.Sweep(
        collective="all_gather",
        network=_NETWORK,
        sizes=(32 << 10, 512 << 10),
        algorithms=("xla", "ring", "recursive", "pccl_ring", "pccl_recursive"),
        iters=4,
        devices=2,
      ),
    ),
    training=config.Training(
      network=_NETWORK,
      cases=("zero3:pccl_recursive", "ddp:ring"),
      layers=2,
      width=32,
      row_tokens=16,
      iters=4,
      devices=2,
    ),
    modelled=modelled_config.Modelled(
      ranks=(16, 64),
      sizes=(16 << 20, 64 << 20),
      map_ranks=(16, 64),
      map_sizes=(256 << 10, 64 << 20, 1 << 30),
      models=(),
      assumed=(),
    ),
  )
