"""Waves of an epidemic with fear among agents and in equations, full.

Paper: EpiCast with fear, arXiv 2506.07842
Command: python -m experiments.epicast.main \
  --config=experiments/epicast/configs/full.py --workdir=out/full
Expected: 25 minutes, 2.5 GB on 2 cores
Paper's value: broadcasters with a strong response generally give several waves
"""

from experiments.epicast import config


def get_config(arg: str = "") -> config.Config:
  """Returns the full settings: finer grids, a larger town, ten seeds."""
  del arg
  return config.Config(
    size="full",
    agents=config.Agents(
      people=20_000,
      seeds=10,
      calm_seeds=20,
      local=config.Grid(
        phi_ff=(0.0, 0.001, 0.003, 0.01), phi_sf=(0.01, 0.1, 1.0)
      ),
      broadcaster=config.Grid(strength=(10.0, 30.0, 100.0, 300.0), lag=(1, 14)),
      both=config.Grid(
        phi_ff=(0.001, 0.003, 0.01),
        phi_sf=(0.1,),
        strength=(10.0, 30.0, 100.0, 300.0),
      ),
      larger=5,
    ),
    surrogates=config.Surrogates(side=64, points=8192),
    speed=config.Speed(people=1_000_000, days=30, rounds=8),
  )
