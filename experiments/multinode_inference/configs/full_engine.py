"""An engine on emulated links, by every strategy, full.

Paper: Multi-node LLM inference, arXiv 2511.09557
Command: python -m experiments.multinode_inference.main \
  --config=experiments/multinode_inference/configs/full_engine.py \
  --workdir=out/full_engine
Expected: 37 minutes, 13 GB on 2 cores
Paper's value: up to 1.72 over NCCL, Llama 3.1 405B, decode-heavy
"""

from experiments.multinode_inference import config, engine_config

_FAR = "4x1,alpha=1ms,bw=1Gb"


def get_config(arg: str = "") -> config.Config:
  """Returns the settings; of all-reduces alone only a few are timed."""
  del arg
  return config.Config(
    size="full",
    headline=config.Links(
      network="4x2,alpha=1ms,bw=1Gb",
      sizes=(128 << 10, 512 << 10),
      algorithms=config.MAIN,
    ),
    held_out_sizes=(),
    accuracy=config.Accuracy(draws=2),
    engine=(
      engine_config.Job(
        name="SmolLM2 135M",
        network=_FAR,
        model="smollm2-135m",
        layers=30,
        reading="32+1",
        drawing="16+8",
        cases=(
          *("tp:nvrar", "tp:recursive_doubling", "tp:ring"),
          *("hybrid:recursive_doubling", "pp:xla"),
        ),
        iters=10,
      ),
      # All-reduces of 1 MB while nobody reads.
      engine_config.Job(
        name="a random decoder of width 4096",
        network=_FAR,
        width=4096,
        batch=64,
        pieces=1024,
        reading="",
        drawing="16+4",
        cases=("tp:nvrar", "tp:recursive_doubling", "tp:rabenseifner"),
        iters=10,
      ),
    ),
  )
