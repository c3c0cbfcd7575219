"""Findings that nobody measured."""

import dataclasses
from collections.abc import Callable
from typing import Any

from experiments.pccl import analysis, training
from experiments.pccl import config as config_lib
from experiments.tools import timed_training
from tests.experiments.multinode_inference import made_up

K = 1024
SIZES = (32 * K, 128 * K, 512 * K, 2048 * K)
NETWORK = "4x2,alpha=1ms,bw=1Gb"
CASES = ("zero3:ring", "zero3:pccl_recursive", "ddp:ring", "ddp:pccl_recursive")


def config(**fields) -> config_lib.Config:
  """Returns settings of one all-gather."""
  sweep = config_lib.Sweep(
    collective="all_gather", network=NETWORK, sizes=SIZES, **fields
  )
  steps = config_lib.Training(network=NETWORK, cases=CASES)
  return config_lib.Config(sweeps=(sweep,), training=steps)


def findings(
  seconds: Callable[[str, int], float],
  settings: config_lib.Config | None = None,
  *,
  step: Callable[[str], float] = lambda case: 1.0,
  cases: dict[str, list[timed_training.Case]] | None = None,
  reason: str = "",
  **fields,
) -> analysis.Findings:
  """Returns what such times come to.

  Args:
    seconds: of a call, by algorithm and size.
    settings: by default those of `config`.
    step: seconds of a training step, by case.
    cases: by default those of `trained`.
    reason: why there are no times.
    **fields: of every row.
  """
  settings = settings or config()
  rows = [
    made_up.timings(seconds, one.names, sizes=one.sizes, **fields)
    for one in settings.sweeps
  ]
  steps = made_up.timings(
    lambda case, _: step(case), settings.training.cases, sizes=(400,), **fields
  )
  done = training.Trained(
    rows=[] if reason else steps, cases=cases or trained(), reason=reason
  )
  return analysis.analyse(settings, [] if reason else rows, reason, done)


def trained(**changes: timed_training.Case) -> dict:
  """Returns cases that agree, but for `kind_algorithm=Case(...)`."""
  ports = {"ring": 800.0, "pccl_recursive": 600.0}
  cases = {
    name: [case(name, port_bytes=ports[name.split(":")[1]])] for name in CASES
  }
  for name, changed in changes.items():
    cases[name.replace("_", ":", 1)] = [changed]
  return cases


def case(name: str, **fields: Any) -> timed_training.Case:
  """Returns a case that sends its formula's bytes and learns."""
  usual = timed_training.Case(
    name=name,
    losses=(5.0, 4.5, 4.0),
    rank_bytes=1000.0,
    port_bytes=600.0,
    formula_bytes=1000.0,
  )
  return dataclasses.replace(usual, **fields)
