"""What the tests of EpiCast share: a small region, and its compiled runs."""

import functools

import numpy as np

from research.systems.epicast import contacts, disease, engine, policies
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
  behaviours=None,
  people=None,
  multiple=1,
):
  """A loaded world."""
  people = people or population()
  behaviours = behaviours or disease.usual_and_withdrawn()
  tables = contacts.compile_tables(history, contact, behaviours)
  rules = policies.compile_changes(changes, people.fips)
  return engine.load(people, tables, rules, multiple=multiple)


def start(loaded, *, history=HISTORY, seed=0, index_cases=None):
  """A state in which every 40th agent is infected."""
  if index_cases is None:
    index_cases = np.arange(0, len(loaded.agents.age), 40)
  return engine.start(loaded, history, index_cases, seed=seed)
