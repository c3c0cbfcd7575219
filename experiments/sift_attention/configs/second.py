"""The power law of attention scores and policies built on it, a second model.

Paper: SiftAttention, arXiv 2506.05300
Command: python -m experiments.sift_attention.main \
  --config=experiments/sift_attention/configs/second.py --workdir=out/second
Expected: 8 minutes, 9 GB on 2 cores; fetches 1.1 GB once
Paper's value: law and quality are stated in the abstract, without a figure
"""

from experiments.sift_attention import config


def get_config(arg: str = "") -> config.Config:
  """Returns settings for Qwen2.5-Coder-1.5B, few and short windows."""
  del arg
  return config.Config(
    size="full",
    model="qwen2.5-coder-1.5b",
    windows=1,
    window_size=512,
    quality=config.Quality(
      windows=1,
      window_size=512,
      policies=(
        "power_law:level=0.75,warmup=64",
        "power_law:level=0.875,warmup=64",
        "relative_to_max:scale=2",
        "relative_to_max:scale=8",
      ),
      raw=(),
      few_windows=1,
      warmups=(),
      prompts=(),
      retrieval_lengths=(),
    ),
  )
