"""Rows that would lose too much become dense; the others stay as they are."""

import jax.numpy as jnp
import numpy as np
import pytest

from research.systems.sift_attention import selection
from research.systems.sift_attention.policies import (
  base,
  certified,
  control,
  law,
  rules,
)

_SCORES = jnp.log(jnp.array([[[0.9, 0.1, 0.0], [0.5, 0.49, 0.01]]]))
_ONE = rules.TopK(1)


def test_only_poor_rows_become_dense():
  policy = certified.Certified(_ONE, 0.8)
  always = selection.Always(newest=0)
  chosen, _ = selection.select(policy, (), _SCORES, jnp.array([2]), always)
  assert chosen.keep.tolist() == [[[True, False, False], [True, True, False]]]
  assert np.isneginf(np.asarray(chosen.log_threshold)).tolist() == [
    [False, True]
  ]


def test_a_policy_by_position_alone_holds_no_mass_of_its_own():
  policy = certified.Certified(rules.PositionOnly(), 0.5)
  row = base.make_row(_SCORES, jnp.array([3]))
  assert (policy.threshold((), row) == -jnp.inf).all()


def test_a_dense_row_does_not_wind_up_a_controller():
  inner = control.Controlled(_ONE, 0.5)
  policy = certified.Certified(inner, 0.8)
  state = policy.init(1, 2)
  _, after = selection.select(policy, state, _SCORES, jnp.array([3]))
  pushed = np.asarray(after.log_c)[0] != 0
  assert pushed.tolist() == [True, False]


def test_a_law_inside_warms_up():
  policy = certified.Certified(law.PowerLaw(warmup=2), 0.5)
  state = policy.init(1, 2)
  for length in (2, 3):
    assert policy.wants_scores(state)
    _, state = selection.select(policy, state, _SCORES, jnp.array([length]))
  assert not policy.wants_scores(state)


@pytest.mark.parametrize("mass", [0.0, 1.0])
def test_bad_masses_are_named(mass):
  with pytest.raises(ValueError, match=f"between 0 and 1, got {mass}; Dense"):
    certified.Certified(_ONE, mass)
