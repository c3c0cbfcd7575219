"""What the tests of EpiCast share: a small region, and its compiled runs."""

import dataclasses
import functools

import jax
import numpy as np

from research.systems.epicast import disease, engine, minds, policies
from research.systems.epicast.behaviours import Behaviour
from research.systems.epicast.broadcaster import Broadcaster, Level, Signal
from research.systems.epicast.fear import Fear
from research.systems.epicast.population import build, daytime, synthetic

SMALL_GROUPS = daytime.Daytime(class_size=(4, 6, 6, 6), work_group=5)
HISTORY = disease.Disease()
# Weak contacts made strong, so that all contexts matter among 400 people.
STRONG = disease.Contacts(
  p_trans=0.1,
  household_factor=1.0,
  cluster_factor=3.0,
  neighbourhood_factor=30.0,
  community_factor=60.0,
  class_factor=3.0,
  school=0.1,
)

# Everything at once, strong enough for 400 people in a month.
FEAR = Fear(
  phi_ff=0.03,
  phi_sf=0.1,
  phi_self=0.7,
  rho_f=0.4,
  gamma_f=0.1,
  gamma_r=0.02,
  weights={
    "household": 1.0,
    "cluster": 0.5,
    "neighbourhood": 0.02,
    "community": 0.01,
    "work": 0.6,
    "class": 0.4,
    "school": 0.3,
    "day_neighbourhood": 0.03,
    "day_community": 0.005,
  },
  media_spread=0.8,
  initial=0.02,
  broadcasters=(
    Broadcaster(strength=1.0, lag=2, average=3),
    Broadcaster(
      strength=0.3,
      level=Level.COUNTY,
      signal=Signal.PREVALENCE,
      lag=1,
      average=2,
      threshold=0.05,
      until=0.02,
    ),
  ),
  behaviours=(
    Behaviour(
      name="home", compliance=0.3, withdraw=("community", "day_community")
    ),
    Behaviour(
      name="careful",
      compliance=0.6,
      susceptibility=0.9,
      infectiousness=0.9,
      withdraw=("school",),
      mask=("work", "class", "neighbourhood"),
      mask_in=0.8,
      mask_out=0.6,
      distance={"cluster": 0.5, "household": 0.9},
    ),
  ),
)

# One kind of compiled run for many tests: what they do not want is zero.
NO_ORDER = policies.Shelter(day=0, compliance=0)
SILENT = tuple(
  dataclasses.replace(source, strength=0) for source in FEAR.broadcasters
)
IDLE = tuple(
  Behaviour(name=item.name, compliance=0) for item in FEAR.behaviours
)
NONE = dataclasses.replace(
  FEAR,
  phi_ff=0,
  phi_sf=0,
  phi_self=0,
  rho_f=0,
  gamma_f=0,
  gamma_r=0,
  initial=0,
  media_spread=0,
  broadcasters=SILENT,
  behaviours=IDLE,
)


@functools.cache
def region(people=400, counties=2):
  """A census and flows."""
  return synthetic.region(people, counties=counties)


@functools.cache
def population(people=400):
  """People of two counties, in several tracts' communities."""
  return build.build(*region(people), day=SMALL_GROUPS)


def world(
  contact=STRONG,
  *,
  history=HISTORY,
  changes=(),
  fear=None,
  people=None,
  multiple=1,
):
  """A loaded world."""
  return engine.load(
    people or population(), history, contact, changes, fear, multiple=multiple
  )


def start(loaded, *, history=HISTORY, fear=None, seed=0, index_cases=None):
  """A state in which every 40th agent is infected."""
  if index_cases is None:
    index_cases = np.arange(0, len(loaded.agents.age), 40)
  return engine.start(loaded, history, index_cases, fear, seed=seed)


def run(loaded, state, days):
  """Runs days one by one: tests share what is compiled for one."""
  found = []
  for _ in range(days):
    state, daily = engine.run(loaded, state, days=1)
    found.append(jax.device_get(daily))
  return state, jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def fearful(state):
  """Who is fearful."""
  if state.minds is None:
    return np.zeros(len(state.stage), bool)
  return np.asarray(minds.fearful(state.minds.mind))
