"""The power law of attention scores, laptop.

Paper: SiftAttention, arXiv 2506.05300
Command: python -m experiments.sift_attention.main \
  --config=experiments/sift_attention/configs/laptop.py --workdir=out/laptop
Expected: 2 minutes, 1.9 GB on 2 cores
Paper's value: the law is stated in the abstract, without a figure
"""

from experiments.sift_attention import config


def get_config(arg: str = "") -> config.Config:
  """Returns the laptop settings."""
  del arg
  return config.Config(size="laptop")
