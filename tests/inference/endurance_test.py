"""Thousands of real steps: nothing is compiled, kept or lost."""

import dataclasses

import jax
import numpy as np
import pytest

from research.inference import sampling, speculation
from research.inference.request import Request
from tests.inference import invariants

_STEPS = 10_000


def _live_bytes() -> int:
  return sum(x.nbytes for x in jax.live_arrays() if not x.is_deleted())


class _Traffic:
  """Requests of all kinds, some of which are aborted."""

  def __init__(self, engine):
    self._engine, self._rng = engine, np.random.default_rng(0)
    self._live: list[int] = []

  def step(self) -> None:
    rng = self._rng
    if len(self._live) < 7 and rng.random() < 0.4:
      self._live.append(self._engine.add(self._request()))
    if self._live and rng.random() < 0.01:
      self._engine.abort(self._live[rng.integers(len(self._live))])
    for event in self._engine.step():
      if event.completion is not None:
        self._live.remove(event.number)

  def _request(self) -> Request:
    rng = self._rng
    warm = sampling.Sampling(
      temperature=float(rng.integers(0, 2)),
      top_k=int(rng.integers(0, 3)),
      min_p=float(rng.choice([0.0, 0.1])),
      seed=int(rng.integers(1000)),
    )
    word = rng.integers(0, 256, 5).tolist()
    return Request(
      word * int(rng.integers(1, 10)),
      sampling=dataclasses.replace(warm, logit_bias={word[0]: 2.0}),
      max_tokens=int(rng.integers(1, 40)),
      logprobs=bool(rng.integers(0, 2)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("drafter", [None, speculation.PromptLookup()])
def test_trap_12_nothing_grows_and_nothing_is_compiled(
  make_engine, compilations, drafter
):
  engine = make_engine(drafter=drafter)
  traffic = _Traffic(engine)
  for _ in range(100):
    traffic.step()
  before, held = len(compilations), []
  while engine.steps < _STEPS:
    traffic.step()
    if engine.steps % 500 == 0:
      held.append(_live_bytes())
      invariants.check(engine)
  assert len(compilations) == before
  pool = sum(x.nbytes for x in jax.tree.leaves(engine.runner._carried))
  # What a step in flight answers comes and goes.
  assert max(held) - min(held) < 0.01 * pool
