"""How fast the simulator is here, in CPU time, with fear and without."""

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np

from experiments.epicast import agents_study, cells
from experiments.epicast import config as config_lib
from research import runs
from research.systems.epicast import disease, engine
from research.systems.epicast.fear import Fear
from research.systems.epicast.population import build, people, synthetic
from research.telemetry import bench, peer

AIM = 1e7  # agent-days a CPU-second
#: All of fear, but weak, so that the epidemic goes on while it is timed.
_CELL = cells.Cell("both", 0.5, 20.0, 0.001, 0.1, 10.0, 1)
_KINDS = {"agents with fear": _CELL.fear(), "agents without fear": None}
_MILLION = 1e6


def run(config: config_lib.Config) -> tuple[bench.BenchResult, ...]:
  """Times runs with fear and without, in turn.

  Args:
    config: the settings.

  Returns:
    Rows in CPU-seconds of this process, all its threads, for a million
    agent-days.
  """
  settings = config.speed
  town = build.build(*synthetic.region(settings.people), seed=0)
  timed, attack = {}, {}
  for name, fear in _KINDS.items():
    timed[name], attack[name] = _candidate(town, fear, config)
  rows = bench.interleave(
    timed,
    rounds=settings.rounds,
    work=settings.people * settings.days / _MILLION,
    unit="CPU-s/million agent-days",
  )
  return tuple(
    dataclasses.replace(
      row,
      meta={
        **row.meta,
        "agents": settings.people,
        "days": settings.days,
        "infected before": round(attack[row.name][0], 4),
        "infected after": round(attack[row.name][1], 4),
      },
    )
    for row in rows
  )


def _candidate(
  town: people.Population, fear: Fear | None, config: config_lib.Config
) -> tuple[Callable[[], peer.Reply], tuple[float, float]]:
  """What to time, and the share ever infected before and after it."""
  settings = config.speed
  cases = agents_study.index_cases(
    town, settings.index_share, config.seed, replicate=0
  )
  world = engine.load(
    town, agents_study.HISTORY, agents_study.CONTACTS, (), fear
  )
  state = engine.start(
    world, agents_study.HISTORY, cases, fear, seed=config.seed
  )
  on, before = engine.run(world, state, days=settings.days)
  _, after = engine.run(world, on, days=settings.days)

  def call() -> peer.Reply:
    began = time.process_time()
    jax.block_until_ready(engine.run(world, on, days=settings.days))
    return peer.Reply(time.process_time() - began, {})

  return call, (_attack(before), _attack(after))


def _attack(daily: engine.Daily) -> float:
  last = np.asarray(daily.stages)[-1].sum(0)
  return 1 - float(last[disease.Stage.S]) / float(last.sum())


def judge(rows: tuple[bench.BenchResult, ...]) -> runs.Claim:
  """Judges the speed with fear.

  Args:
    rows: of `run`.
  """
  row = rows[0]
  speed = _MILLION / row.median if row.median else None
  contended = row.verdict != "judged"
  return runs.Claim(
    id="speed",
    statement="With all of fear on, 10 million agents' day takes a CPU-second "
    "or less",
    paper_value=None,
    measured=speed,
    unit="agent-days per CPU-second",
    kind="measured",
    scope="beyond",
    holds=None if contended or speed is None else speed >= AIM,
    time_dependent=True,
    note=f"{row.meta['agents']:,} agents, {row.meta['days']} days in which the "
    f"share ever infected goes from {row.meta['infected before']:.1%} to "
    f"{row.meta['infected after']:.1%}; rule: at least {AIM:.0e}"
    + ("; not judged: a neighbour left fewer than five rounds" * contended),
  )
