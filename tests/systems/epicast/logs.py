"""A run of everything at once with its event log, for tests."""

import dataclasses
import functools

import numpy as np

from research.systems.epicast import engine, events, policies, sharding
from tests.systems.epicast import cases

CHANGES = (
  policies.Change(day=4, context="work", scale=0.5, fips=(1,)),
  policies.Shelter(day=6, compliance=0.3),
)
DAYS = 20
# Behaviours that differ much among contexts, so that shares tell them apart.
FEAR = dataclasses.replace(
  cases.FEAR,
  behaviours=(
    cases.FEAR.behaviours[0],
    dataclasses.replace(
      cases.FEAR.behaviours[1],
      compliance=0.9,
      mask_in=0.2,
      distance={"cluster": 0.9, "household": 0.3},
    ),
  ),
)


def record(world, state, mesh=None, capacity=None, days=DAYS, fear=FEAR):
  """The log of a run, its states by day, and how many rows spilled."""
  recorder = events.Recorder(
    cases.population(),
    cases.HISTORY,
    cases.STRONG,
    fear,
    seed=0,
    capacity=capacity,
  )
  parts, states = [recorder.begin(world, state)], [state]
  for _ in range(days):
    if mesh is None:
      after, _ = engine.run(world, state, days=1)
    else:
      after, _ = sharding.run(world, state, days=1, mesh=mesh)
    parts.append(recorder.day(world, state, after, mesh))
    states.append(state := after)
  joined = {
    name: np.concatenate([part[name] for part in parts]) for name in parts[0]
  }
  return joined, states, recorder.spilled


def start(multiple=1):
  """Everything at once, before day 0."""
  world = cases.world(changes=CHANGES, fear=FEAR, multiple=multiple)
  people = np.arange(0, len(cases.population()), 40)
  return world, cases.start(world, fear=FEAR, index_cases=people)


@functools.cache
def alone():
  """A run on one device."""
  return record(*start())
