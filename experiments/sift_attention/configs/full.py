"""The power law of attention scores and policies built on it, full.

Paper: SiftAttention, arXiv 2506.05300
Command: python -m experiments.sift_attention.main \
  --config=experiments/sift_attention/configs/full.py --workdir=out/full
Expected: 60 minutes, 2.1 GB on 2 cores
Paper's value: law and quality are stated in the abstract, without a figure
"""

from experiments.sift_attention import config


def get_config(arg: str = "") -> config.Config:
  """Returns the full settings."""
  del arg
  return config.Config(size="full", windows=8, window_size=2048)
