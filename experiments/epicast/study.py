"""The experiment: towns of agents, then the surrogate equations."""

from experiments.epicast import (
  agents_claims,
  agents_figures,
  agents_study,
  speed,
  surrogates_claims,
  surrogates_figures,
  surrogates_study,
)
from experiments.epicast import config as config_lib
from research import runs
from research.runs import config as runs_config


def run(config: config_lib.Config, context: runs.Context) -> runs.Result:
  """Measures, judges and draws.

  Args:
    config: the settings.
    context: where to put what it makes.

  Returns:
    The judged claims, those of agents first.
  """
  config.check()
  outbreaks = agents_study.run(config, context)
  solved = surrogates_study.run(config, outbreaks)
  rows = speed.run(config)
  agents_figures.draw(config, outbreaks, context)
  surrogates_figures.draw(solved, context)
  return runs.Result(
    paper="epicast",
    config=runs_config.to_dict(config),
    claims=(
      *agents_claims.judge(config, outbreaks),
      *surrogates_claims.judge(config, solved),
      speed.judge(rows),
    ),
    bench=rows,
  )


def rehearse(config: config_lib.Config) -> str:
  """Says what a run would do.

  Args:
    config: the settings.
  """
  config.check()
  return "\n".join(
    (
      agents_study.rehearse(config),
      surrogates_study.rehearse(config),
      f"{config.speed.people:,} people for {config.speed.days} days, timed",
    )
  )
