"""The power law of attention scores and policies built on it, a second model.

Paper: SiftAttention, arXiv 2506.05300
Command: python -m experiments.sift_attention.main \
  --config=experiments/sift_attention/configs/full_qwen.py \
  --workdir=out/full_qwen
Expected: 40 minutes, 9 GB on 2 cores; fetches 1.1 GB once
Paper's value: law and quality are stated in the abstract, without a figure
"""

from experiments.sift_attention import config


def get_config(arg: str = "") -> config.Config:
  """Returns settings for Qwen2.5-Coder-1.5B: fewer windows and policies."""
  del arg
  return config.Config(
    size="full",
    model="qwen2.5-coder-1.5b",
    windows=1,
    quality=config.Quality(
      windows=3,
      policies=(
        "power_law:level=0.75,warmup=64",
        "power_law:level=0.875,warmup=64",
        "fixed_beta:level=0.5",
        "fixed_beta:level=0.75",
        "fixed_beta:level=0.75,target=0.25",
        "quantile:level=0.75",
        "quantile:level=0.875",
        "top_mass:mass=0.8",
        "top_mass:mass=0.95",
        "relative_to_max:scale=0.5",
        "relative_to_max:scale=2",
        "relative_to_max:scale=8",
        "streaming_llm:share=0.5",
        "streaming_llm:share=0.25",
      ),
      raw=(),
      warmups=(),
      prompts=(),
      retrieval_lengths=(),
    ),
  )
