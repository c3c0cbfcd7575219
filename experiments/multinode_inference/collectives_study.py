"""Times all-reduces and the engine on emulated links, rounds, and models."""

from collections.abc import Sequence

from experiments import dispatched, emulated_links
from experiments.multinode_inference import (
  accuracy,
  collectives_analysis,
  collectives_claims,
  collectives_figures,
  engine_claims,
  engine_figures,
  engine_study,
  modelled_claims,
  modelled_figures,
  modelled_study,
)
from experiments.multinode_inference import config as config_lib
from research import runs
from research.runs import config as runs_config


def run(config: config_lib.Config, context: runs.Context) -> runs.Result:
  """Measures, judges and draws.

  Args:
    config: the settings.
    context: where to put what it makes.

  Returns:
    The judged claims, those of speed first and modelled ones last.
  """
  config.check()
  modelled = modelled_study.run(config.modelled, seed=config.seed)
  rounding = accuracy.run(config.accuracy, context, seed=config.seed)
  timings, reason = measure(config.links, context)
  found = collectives_analysis.analyse(config, timings, reason, rounding)
  collectives_figures.draw(config, found, context)
  engine = engine_study.run(config.engine, context, seed=config.seed)
  engine_figures.draw(engine, context)
  modelled_figures.draw(config.modelled, modelled, context)
  return runs.Result(
    paper="multinode_inference",
    config=runs_config.to_dict(config),
    claims=(
      *collectives_claims.judge(config, found),
      *engine_claims.judge(config.engine, engine),
      *dispatched.judge_timed(_timed(config, found), reason),
      *modelled_claims.judge(config.modelled, modelled),
    ),
    bench=(
      *collectives_analysis.bench_rows(config, found),
      *engine_study.bench_rows(engine),
    ),
  )


def _timed(
  config: config_lib.Config, found: collectives_analysis.Findings
) -> list[dispatched.Timed]:
  return [
    dispatched.Timed(
      "all_reduce",
      one.network,
      list(found.networks[one.network].cells.values())
      if one.network in found.networks
      else [],
    )
    for one in config.links
  ]


def measure(
  links: Sequence[config_lib.Links], context: runs.Context
) -> tuple[dict[str, list[emulated_links.Pooled]], str]:
  """Times what is asked for on each network.

  Args:
    links: what to time.
    context: of the run.

  Returns:
    Rows by network, and why there are none: empty where there are.
  """
  try:
    done = {
      one.network: emulated_links.timings(
        context,
        one.network,
        collective="all_reduce",
        algorithms=one.algorithms,
        sizes=one.sizes,
        iters=one.iters,
        warmup=one.warmup,
        rounds=one.rounds,
        peers=one.peers,
      )
      for one in links
    }
  except emulated_links.UnavailableError as error:
    return {}, str(error)
  return done, ""


def rehearse(config: config_lib.Config) -> str:
  """Says what a run would do.

  Args:
    config: the settings.
  """
  config.check()
  lines = [
    f"{one.network}: {len(one.algorithms)} algorithms, {len(one.sizes)} sizes, "
    f"{one.iters} calls, {one.rounds} times; peers: "
    f"{', '.join(one.peers) or 'none'}"
    for one in config.links
  ]
  ranks, gpus = config.accuracy.ranks, config.modelled.gpus
  return "\n".join(
    (
      *lines,
      *(engine_study.rehearse(job) for job in config.engine),
      f"rounding on {', '.join(map(str, ranks))} ranks",
      f"Perlmutter and Vista, modelled: {gpus[0]} to {gpus[-1]} GPUs",
    )
  )
