"""Solutions that several tests read."""

import jax
import pytest

from research.systems.epicast.surrogates import model, parameters, solve
from tests.systems.epicast.surrogates import cases


@pytest.fixture(scope="session")
def both():
  """States of each model with and without fear, in float64, by its name."""
  changes = {
    name: [getattr(cases.AFRAID, name), getattr(cases.CALM, name)]
    for name in parameters.NAMES
  }
  with jax.enable_x64(True):
    return {m.name: solve.batch(m, cases.CALM, changes) for m in model.MODELS}


@pytest.fixture(scope="session")
def afraid(both):
  """States of each model with fear."""
  return {name: states[0] for name, states in both.items()}


@pytest.fixture(scope="session")
def calm(both):
  """States of each model without fear."""
  return {name: states[1] for name, states in both.items()}
