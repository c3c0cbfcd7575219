"""Times collectives and training on emulated links, and models Frontier."""

from experiments import dispatched, emulated_links
from experiments.pccl import (
  analysis,
  claims,
  figures,
  modelled_claims,
  modelled_figures,
  modelled_study,
  training,
  training_claims,
)
from experiments.pccl import config as config_lib
from research import runs
from research.runs import config as runs_config


def run(config: config_lib.Config, context: runs.Context) -> runs.Result:
  """Measures, judges and draws.

  Args:
    config: the settings.
    context: where to put what it makes.

  Returns:
    The judged claims, those of the collectives first and modelled ones last.
  """
  config.check()
  modelled = modelled_study.run(config.modelled, context, seed=config.seed)
  swept, reason = sweep(config, context)
  trained = training.run(config.training, context)
  found = analysis.analyse(config, swept, reason, trained)
  figures.draw(config, found, context)
  modelled_figures.draw(config.modelled, modelled, context)
  return runs.Result(
    paper="pccl",
    config=runs_config.to_dict(config),
    claims=(
      *claims.judge(config, found),
      *training_claims.judge(found),
      *dispatched.judge_timed(_timed(found), reason),
      *modelled_claims.judge(config.modelled, modelled),
    ),
    bench=analysis.bench_rows(config, found),
  )


def sweep(
  config: config_lib.Config, context: runs.Context
) -> tuple[list[list[emulated_links.Pooled]], str]:
  """Times every sweep.

  Args:
    config: the settings.
    context: of the run.

  Returns:
    Rows of each sweep, and why there are none: empty where there are.
  """
  try:
    rows = [
      emulated_links.timings(
        context,
        one.network,
        collective=one.collective,
        algorithms=one.names,
        sizes=one.sizes,
        iters=one.iters,
        warmup=one.warmup,
        rounds=one.rounds,
        devices=one.devices,
      )
      for one in config.sweeps
    ]
  except emulated_links.UnavailableError as error:
    return [], str(error)
  return rows, ""


def _timed(found: analysis.Findings) -> list[dispatched.Timed]:
  return [
    dispatched.Timed(
      one.sweep.collective,
      one.sweep.network,
      list(one.cells.cells.values()),
      one.sweep.devices,
    )
    for one in found.swept
  ]


def rehearse(config: config_lib.Config) -> str:
  """Says what a run would do.

  Args:
    config: the settings.
  """
  config.check()
  lines = [
    f"{one.collective} on {one.network}: {', '.join(one.names)}; "
    f"{len(one.sizes)} sizes, {one.iters} calls, {one.rounds} times"
    for one in config.sweeps
  ]
  steps = config.training
  return "\n".join(
    (
      *lines,
      f"training on {steps.network}: {', '.join(steps.cases)}; {steps.iters} "
      f"steps, {steps.rounds} times",
      f"Frontier, modelled: {config.modelled.ranks[-1]} GCDs; training "
      f"{', '.join(config.modelled.models) or 'none'}",
    )
  )
