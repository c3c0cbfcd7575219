"""The power law of attention scores and policies built on it, laptop.

Paper: SiftAttention, arXiv 2506.05300
Command: python -m experiments.sift_attention.main \
  --config=experiments/sift_attention/configs/laptop.py --workdir=out/laptop
Expected: 2.5 minutes, 2 GB on 2 cores
Paper's value: law and quality are stated in the abstract, without a figure
"""

from experiments.sift_attention import config


def get_config(arg: str = "") -> config.Config:
  """Returns the laptop settings."""
  del arg
  return config.Config(
    size="laptop",
    windows=1,
    quality=config.Quality(
      windows=1,
      window_size=768,
      policies=(
        "power_law:level=0.75,warmup=64",
        "power_law:level=0.875,warmup=64",
        "fixed_beta:level=0.75,target=0.25",
        "quantile:level=0.75",
        "quantile:level=0.875",
        "relative_to_max:scale=0.5",
        "relative_to_max:scale=2",
        "streaming_llm:share=0.5",
        "streaming_llm:share=0.25",
      ),
      few_windows=1,
      warmups=(),
      prompts=(384,),
      retrieval_lengths=(),
    ),
  )
