"""Outbreaks that nobody simulated."""

import dataclasses
from collections.abc import Callable

import numpy as np

from experiments.epicast import cells, surrogates_study
from experiments.epicast import config as config_lib
from experiments.epicast.agents_study import Outbreaks, Run
from research.systems.epicast.surrogates import examples, fit, model, sweep
from research.systems.epicast.surrogates.parameters import Parameters

STRONG = 0.9
Waves = Callable[[cells.Cell, int], int]


def config() -> config_lib.Config:
  """Settings with two seeds of each cell."""
  return config_lib.Config()


def run(waves: int, attack: float = 0.5) -> Run:
  """A run of ten days."""
  flat = np.full(10, 0.1)
  return Run(flat, flat, flat, attack, waves)


def outbreaks(
  waves: Waves,
  settings: config_lib.Config | None = None,
  *,
  calm: int = 1,
  larger: int | None = None,
) -> Outbreaks:
  """Runs with such waves, by cell and seed.

  Args:
    waves: how many.
    settings: by default those of `config`.
    calm: waves of the last run without fear.
    larger: waves of every run in a larger town; None for no such town.
  """
  agents = (settings or config()).agents
  grid = list(agents.cells())
  strong = agents.broadcaster.cells("broadcaster", agents.cuts[-1:])
  return Outbreaks(
    people=agents.people,
    calm=[run(1), run(calm)],
    cells={
      cell: [run(waves(cell, seed)) for seed in range(agents.seeds)]
      for cell in grid
    },
    larger={} if larger is None else dict.fromkeys(strong, larger),
  )


def outbreak(height: float, doubling: float) -> surrogates_study.Outbreak:
  """An outbreak with its peak on day 5."""
  curve = np.zeros(10)
  curve[5] = height
  return surrogates_study.Outbreak(curve, doubling)


def fitted(dispersion: float, waves: tuple[int, int]):
  """A fit that is off on a day, with a rate that the agents know."""
  found = fit.Fit(
    parameters=Parameters(beta=0.4, gamma_f=0.02),
    errors={"beta": 0.01, "gamma_f": 0.001},
    curve=np.zeros(10),
    residuals=np.zeros(10),
    dispersion=dispersion,
    converged=True,
    at_bounds=("beta",),
    misfits=(fit.Misfit(3, 5, 4.2),),
  )
  true = {"gamma_f": 0.025}
  return surrogates_study.Fitted(np.zeros(10), waves, found, true)


def findings(**changes) -> surrogates_study.Findings:
  """Findings of which every claim holds, but for the changes."""
  names = [one.name for one in model.MODELS]
  three = np.array([0.1, 0.2, 0.3])
  line = lambda varied: surrogates_study.Line(
    varied, three, np.array([1, 2, 1])
  )
  outcomes = sweep.Outcomes(*(np.ones((3, 3), int) for _ in range(5)))
  diagram = sweep.Diagram(("rho_f", "sigma_f"), (three, three), outcomes)
  rng = np.random.default_rng(0)
  found = surrogates_study.Findings(
    diagrams=dict.fromkeys(names, diagram),
    lines={
      name: line(one.varied) for name, one in examples.EXAMPLES.items()
    },
    local=np.ones(400, int),
    media=1 + (rng.random(400) < 0.1),
    calm=dict(
      zip(names, (outbreak(0.2, 3), outbreak(0.2, 3), outbreak(0.15, 6)),
          strict=True)
    ),
    afraid=dict(
      zip(names, (outbreak(0.1, 3), outbreak(0.13, 3), outbreak(0.1, 6)),
          strict=True)
    ),
    fits={"no fear": fitted(1.2, (1, 1))},
  )  # fmt: skip
  return dataclasses.replace(found, **changes)
