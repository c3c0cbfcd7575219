"""The power law of attention scores and policies built on it, smoke.

Paper: SiftAttention, arXiv 2506.05300
Command: python -m experiments.sift_attention.main \
  --config=experiments/sift_attention/configs/smoke.py --workdir=out/smoke
Expected: 20 seconds, 1.5 GB on 2 cores
Paper's value: law and quality are stated in the abstract, without a figure
"""

from experiments.sift_attention import config


def get_config(arg: str = "") -> config.Config:
  """Returns the smoke settings."""
  del arg
  return config.Config(
    size="smoke",
    texts=("britannica/shakespeare", "shakespeare/hamlet"),
    windows=1,
    window_size=256,
    rows=64,
    warmups=(32, 64),
    quality=config.Quality(
      windows=1,
      window_size=128,
      exact_steps=64,
      policies=(
        "power_law:level=0.875,warmup=64",
        "relative_to_max:scale=0.5",
        "relative_to_max:scale=2",
      ),
      raw=(),
      few_windows=1,
      warmups=(),
      prompts=(),
      retrieval_lengths=(),
    ),
  )
