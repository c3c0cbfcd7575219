"""Estimates pi from darts on a board, in units that can be resumed."""

import dataclasses
import math
import time

import jax
import numpy as np

from research import runs
from research.mesh import rng
from research.runs import config as config_lib
from research.runs import figures
from research.telemetry import trace


class BoardError(ValueError):
  """The board cannot be thrown at."""


@dataclasses.dataclass(kw_only=True)
class Board:
  radius: float = 1.0


@dataclasses.dataclass(kw_only=True)
class Config(runs.ExperimentConfig):
  throws: int = 2000
  rounds: int = 5
  pause_s: float = 0.0
  board: Board = dataclasses.field(default_factory=Board)


def rehearse(config: Config) -> str:
  return f"would throw {config.throws * config.rounds} darts"


def run(config: Config, context: runs.Context) -> runs.Result:
  if config.board.radius <= 0:
    raise BoardError(
      f"got board.radius={config.board.radius}, expected a positive number;\n"
      "pass --config.board.radius=1.0"
    )

  def throw(name: str) -> dict[str, object]:
    time.sleep(config.pause_s)
    with trace.span("throw"), jax.named_scope("darts"):
      key = rng.key(config.seed, "darts", int(name))
      darts = jax.random.uniform(key, (config.throws, 2))
      hits = (darts**2).sum(axis=1) < 1.0
    return {"hits": hits, "share": np.asarray(hits).mean()}

  names = [str(i) for i in range(config.rounds)]
  done = context.units("throws").map(names, throw)
  shares = np.array([done[name]["share"] for name in names])
  with context.metrics(resume_step=0) as writer:
    for i, share in enumerate(shares):
      writer.scalars(i, {"pi/estimate": 4 * share})
  _draw(shares, context)
  return runs.Result(
    paper="pi",
    config=config_lib.to_dict(config),
    claims=_claims(4 * float(shares.mean())),
  )


def _draw(shares: np.ndarray, context: runs.Context) -> None:
  with figures.style():
    fig, axes = figures.subplots()
    axes.plot(4 * shares, "o-")
    axes.axhline(math.pi)
    axes.set(xlabel="round", ylabel="estimate of pi")
  context.figure(
    fig, "estimate", title="Pi by darts", caption="The line is pi itself."
  )


def _claims(estimate: float) -> tuple[runs.Claim, ...]:
  return (
    runs.Claim(
      id="pi",
      statement="The share of darts inside the circle gives pi",
      paper_value=3.1416,
      measured=estimate,
      kind="measured",
      scope="paper",
      holds=abs(estimate - math.pi) < 0.1,
    ),
    runs.Claim(
      id="rational",
      statement="Pi is three",
      paper_value=3.0,
      measured=estimate,
      kind="measured",
      scope="beyond",
      holds=abs(estimate - 3.0) < 0.05,
    ),
  )
