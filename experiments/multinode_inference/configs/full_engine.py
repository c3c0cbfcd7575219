"""An engine on emulated links, by every strategy, full.

Paper: Multi-node LLM inference, arXiv 2511.09557
Command: python -m experiments.multinode_inference.main \
  --config=experiments/multinode_inference/configs/full_engine.py \
  --workdir=out/full_engine
Expected: 45 minutes, 8 GB on 2 cores (estimated)
Paper's value: up to 1.72 over NCCL, Llama 3.1 405B, decode-heavy
"""

from experiments.multinode_inference import config, engine_config

_FAR = "4x1,alpha=1ms,bw=1Gb"
_FAST = "4x1,alpha=5ms,bw=10Gb"
_TENSOR = tuple(
  f"tp:{name}"
  for name in ("nvrar", "recursive_doubling", "rabenseifner", "ring")
)
_HYBRID = "hybrid:recursive_doubling"


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
          *(_HYBRID, "pp:xla"),
        ),
        iters=10,
      ),
      # All-reduces of 128 KB, 1 MB and 2 MB while nobody reads.
      _wide(
        _FAR,
        width=2048,
        batch=16,
        layers=8,
        cases=(*_TENSOR, _HYBRID, "pp:xla"),
      ),
      _wide(_FAR, width=4096, batch=64, layers=4, cases=(*_TENSOR, _HYBRID)),
      _wide(_FAR, width=8192, batch=64, layers=2, reading="", cases=_TENSOR),
      _wide(_FAST, width=4096, batch=64, layers=4, cases=(*_TENSOR, _HYBRID)),
    ),
  )


def _wide(
  network: str,
  *,
  width: int,
  batch: int,
  layers: int,
  cases: tuple[str, ...],
  reading: str = "16+1",
) -> engine_config.Job:
  return engine_config.Job(
    name=f"a random decoder of width {width}",
    network=network,
    layers=layers,
    width=width,
    batch=batch,
    pieces=16 * batch,
    reading=reading,
    drawing="16+8",
    cases=cases,
    iters=10,
  )
