"""Gathers, scatters and training steps on emulated links, full.

Paper: PCCL, arXiv 2504.18658
Command: python -m experiments.pccl.main \
  --config=experiments/pccl/configs/full.py --workdir=out/full
Expected: 17 minutes, 4 GB on 2 cores
Paper's value: all-gather 6 to 33 times over RCCL on 2,048 GCDs
"""

from experiments import dispatched
from experiments.pccl import config, modelled_config

_HEADLINE = "4x2,alpha=1ms,bw=1Gb"
_LONG = "4x2,alpha=5ms,bw=10Gb"
_ONE_LEVEL = "8x1,alpha=5ms,bw=10Gb"
_K = 1024


def get_config(arg: str = "") -> config.Config:
  """Returns the full settings."""
  del arg
  sides = ("all_gather", "reduce_scatter")
  return config.Config(
    size="full",
    sweeps=(
      *(
        config.Sweep(
          collective=side,
          network=_HEADLINE,
          sizes=tuple(n * _K for n in (8, 32, 128, 512, 2048, 8192)),
          iters=12,
          rounds=2,
        )
        for side in sides
      ),
      config.Sweep(
        collective="all_reduce",
        network=_HEADLINE,
        sizes=tuple(n * _K for n in (32, 128, 512, 2048)),
        algorithms=(
          *("xla", "ring", "rabenseifner", "nvrar"),
          *("pccl_ring", "pccl_recursive"),
        ),
        iters=24,
      ),
      *(
        config.Sweep(
          collective=side,
          network=_LONG,
          sizes=tuple(n * _K for n in (32, 512, 8192)),
          iters=24,
        )
        for side in sides
      ),
      *(
        config.Sweep(
          collective=side,
          network=_ONE_LEVEL,
          sizes=tuple(n * _K for n in (32, 512)),
          iters=24,
        )
        for side in sides
      ),
    ),
    training=config.Training(
      network=_HEADLINE,
      cases=(
        *("zero3:xla", "zero3:ring", "zero3:bruck", "zero3:recursive"),
        *("zero3:pccl_ring", "zero3:pccl_recursive"),
        *("ddp:xla", "ddp:ring", "ddp:rabenseifner", "ddp:double_tree"),
        *("ddp:pccl_ring", "ddp:pccl_recursive", "ddp:nvrar"),
      ),
      iters=24,
    ),
    modelled=modelled_config.Modelled(
      choice=tuple(
        dispatched.Machine(
          name=machine,
          nodes=(2, 4, 8, 16, 32),
          sizes=tuple(1 << power for power in range(14, 30)),
        )
        for machine in ("frontier", "perlmutter")
      )
    ),
  )
