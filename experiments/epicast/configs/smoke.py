"""Waves of an epidemic with fear among agents and in equations, smoke.

Paper: EpiCast with fear, arXiv 2506.07842
Command: python -m experiments.epicast.main \
  --config=experiments/epicast/configs/smoke.py --workdir=out/smoke
Expected: 20 seconds, 1 GB on 2 cores
Paper's value: broadcasters with a strong response generally give several waves
"""

from experiments.epicast import config


def get_config(arg: str = "") -> config.Config:
  """Returns the smoke settings: a village, a cell or two of each kind."""
  del arg
  return config.Config(
    size="smoke",
    agents=config.Agents(
      people=2000,
      days=180,
      seeds=1,
      calm_seeds=2,
      local=config.Grid(fading_days=(45.0,), phi_ff=(0.001,), phi_sf=(0.1,)),
      broadcaster=config.Grid(fading_days=(45.0,), strength=(30.0, 100.0)),
      both=config.Grid(
        fading_days=(45.0,),
        phi_ff=(0.001, 0.01),
        phi_sf=(0.1,),
        strength=(100.0,),
      ),
    ),
    surrogates=config.Surrogates(side=16, points=256, fits=False),
    speed=config.Speed(people=2000, days=20, rounds=1),
  )
