"""What the paper's first figure says of its surrogates."""

import dataclasses

import jax
import numpy as np
import pytest

from research.systems.epicast import waves
from research.systems.epicast.surrogates import examples, solve
from tests.systems.epicast.surrogates import cases


@pytest.mark.parametrize("name", cases.IDS)
def test_one_parameter_makes_one_wave_or_two_within_360_days(name):
  example = examples.EXAMPLES[name]
  assert example.varied == ("rho_f" if name == "SIR×NF" else "sigma_f")
  change = {example.varied: [example.one, example.two]}
  with jax.enable_x64(True):
    found = solve.batch(example.model, example.base, change, days=cases.DAYS)
  stages = example.model.by_stage(found)
  for prominence in (0.001, 0.002, 0.004):
    rule = waves.Rule(prominence=prominence)
    ill = waves.curve(stages, "infectious")
    assert waves.count(ill, rule=rule).tolist() == [1, 2]
  rule = waves.Rule(prominence=0.0005)
  new = waves.curve(stages, "new_symptoms")
  assert waves.count(new, rule=rule).tolist() == [1, 2]


@pytest.mark.parametrize("name", cases.IDS)
def test_trap_07_without_its_fear_an_example_has_one_wave(name):
  """The second wave is fear's work: its sources off, nothing else changed."""
  example = examples.EXAMPLES[name]
  calm = dataclasses.replace(example.parameters(waves=2), rho_f=0.0)
  with jax.enable_x64(True):
    found = solve.batch(
      example.model, calm, {"phi_sf": np.zeros(2), "phi_ff": np.zeros(2)}
    )
  ill = waves.curve(example.model.by_stage(found), "infectious")
  assert waves.count(ill).tolist() == [1, 1]
