"""Rows of calls that nobody timed."""

from collections.abc import Callable, Sequence

import numpy as np

from collectives import algorithms
from experiments import emulated_links
from experiments.multinode_inference import (
  accuracy,
  collectives_analysis,
  engine_config,
)
from experiments.multinode_inference import config as config_lib
from experiments.tools import step_split, timed_collectives

K = 1024
SIZES = (8 * K, 128 * K, 256 * K, 512 * K, 1024 * K, 2048 * K)
_CASES = (
  *("tp:nvrar", "tp:recursive_doubling", "tp:rabenseifner", "tp:ring"),
  *("tp:xla", "hybrid:recursive_doubling", "pp:xla"),
)


def row(
  algorithm: str,
  size: int,
  seconds: Sequence[float] | np.ndarray,
  **fields,
) -> dict:
  """Returns a row as the bench writes it, undisturbed."""
  times = 1e6 * np.asarray(seconds)
  made = timed_collectives.Row(
    collective="all_reduce",
    algorithm=algorithm,
    size=size,
    count=size // 4,
    dtype="float32",
    op="sum",
    median_us=float(np.median(times)),
    min_us=float(times.min()),
    p95_us=float(times.max()),
    algbw=1.0,
    busbw=1.75,
    wrong=0,
    transport="made up",
    times_us=tuple(times.tolist()),
    free_cores=(2.0,) * (len(times) // timed_collectives.BLOCK),
  )
  return made.to_json() | fields


def timings(
  seconds: Callable[[str, int], float],
  names: Sequence[str],
  *,
  sizes: Sequence[int] = SIZES,
  noise: float = 0.01,
  **fields,
) -> list[emulated_links.Pooled]:
  """Returns pooled rows of five blocks, with the medians asked for."""
  rng = np.random.default_rng(0)
  spread = 1 + noise * np.linspace(-1, 1, 5 * timed_collectives.BLOCK)
  return emulated_links.pool(
    [
      [
        row(n, size, seconds(n, size) * rng.permutation(spread), **fields)
        for size in sizes
        for n in names
      ]
    ]
  )


def config(**fields) -> config_lib.Config:
  """Returns settings with the headline's sizes and quick rounding."""
  made = config_lib.Config(
    accuracy=config_lib.Accuracy(ranks=(64,), numbers=8, draws=1), **fields
  )
  made.headline.sizes = SIZES
  return made


def rounding(error: Callable[[str], float]) -> accuracy.Rounding:
  """Returns errors on 64 ranks; with float32 sums they are all the same."""
  return {
    (name, kind, 64): np.array(
      [error(name) if kind == accuracy.BFLOAT16 else 0.001]
    )
    for name in algorithms.names("all_reduce")
    for kind in (accuracy.BFLOAT16, accuracy.FLOAT32)
  }


def findings(
  rows: Sequence[emulated_links.Pooled],
  settings: config_lib.Config | None = None,
  *,
  reason: str = "",
) -> collectives_analysis.Findings:
  """Returns what these rows on the headline's network come to."""
  settings = settings or config()
  networks = {settings.headline.network: rows} if rows else {}
  return collectives_analysis.analyse(
    settings, networks, reason, rounding(lambda name: 0.01)
  )


def job(cases: tuple[str, ...] = _CASES, **fields) -> engine_config.Job:
  """Returns an engine's job with every kind of case."""
  return engine_config.Job(name="a model", cases=cases, **fields)


def answers(
  one: engine_config.Job,
  seconds: Callable[[str, str], float],
  *,
  share: Callable[[engine_config.Job], float] = lambda _: 0.6,
  different: int = 0,
  **fields,
) -> dict:
  """Returns what `time_inference` would write.

  Args:
    one: the job.
    seconds: of a batch, by kind of work and case.
    share: of a batch's time that goes to all-reduces.
    different: tokens of each case.
    **fields: of every row.
  """
  rows, cases = [], []
  for kind, work in one.works.items():
    for name in one.cases:
      wall = seconds(kind, name)
      times = wall * (1 + 0.01 * np.linspace(-1, 1, one.iters))
      rows.append(row(name, 4 * one.batch * one.width, times, **fields))
      split = dict.fromkeys(step_split.GROUPS, 0.0)
      part = share(one) * wall
      split |= {"all_reduce": part, "idle": wall - part}
      cases.append(
        {
          "name": name,
          "work": str(work),
          "steps": work.tokens,
          "drawn": one.batch * work.tokens,
          "different": different,
          "profiled": wall,
          "split": split,
        }
      )
  return {"rows": rows, "cases": cases}
