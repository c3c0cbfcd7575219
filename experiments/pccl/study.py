"""Times collectives and training on emulated links."""

from experiments import emulated_links
from experiments.pccl import (
  analysis,
  claims,
  figures,
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
    The judged claims, those of the collectives first.
  """
  config.check()
  swept, reason = sweep(config, context)
  trained = training.run(config.training, context)
  found = analysis.analyse(config, swept, reason, trained)
  figures.draw(config, found, context)
  return runs.Result(
    paper="pccl",
    config=runs_config.to_dict(config),
    claims=(*claims.judge(config, found), *training_claims.judge(found)),
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
    )
  )
