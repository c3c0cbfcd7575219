"""Gathers, scatters and training steps on emulated links, laptop.

Paper: PCCL, arXiv 2504.18658
Command: python -m experiments.pccl.main \
  --config=experiments/pccl/configs/laptop.py --workdir=out/laptop
Expected: 2.5 minutes, 4 GB on 2 cores
Paper's value: all-gather 6 to 33 times over RCCL on 2,048 GCDs
"""

from experiments.pccl import config, modelled_config

_NETWORK = "4x2,alpha=1ms,bw=1Gb"


def get_config(arg: str = "") -> config.Config:
  """Returns the laptop settings: the headline alone."""
  del arg
  sizes = (32 << 10, 128 << 10, 512 << 10, 2 << 20)
  return config.Config(
    size="laptop",
    sweeps=tuple(
      config.Sweep(
        collective=collective, network=_NETWORK, sizes=sizes, iters=20
      )
      for collective in ("all_gather", "reduce_scatter")
    ),
    training=config.Training(
      network="4x1,alpha=1ms,bw=1Gb",
      cases=(
        *("zero3:ring", "zero3:pccl_recursive"),
        *("ddp:ring", "ddp:pccl_recursive"),
      ),
      layers=2,
      iters=20,
      devices=2,  # half the processes compile in half the time
    ),
    modelled=modelled_config.Modelled(
      ranks=(128, 512, 2048),
      map_ranks=(16, 64, 256),
      ring=False,
      models=("7b",),
      assumed=(),
    ),
  )
