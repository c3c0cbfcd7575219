"""Waves of an epidemic with fear among agents and in equations, laptop.

Paper: EpiCast with fear, arXiv 2506.07842
Command: python -m experiments.epicast.main \
  --config=experiments/epicast/configs/laptop.py --workdir=out/laptop
Expected: 1.5 minutes, 1.5 GB on 2 cores
Paper's value: broadcasters with a strong response generally give several waves
"""

from experiments.epicast import config


def get_config(arg: str = "") -> config.Config:
  """Returns the laptop settings: 10,000 people, two seeds."""
  del arg
  return config.Config(size="laptop")
