"""The LL protocol in all interleavings; and what each of its rules is for."""

import pytest

from kernels_pallas.hierarchical_all_reduce import plan as plans
from tests.kernels_pallas.hierarchical_all_reduce import ll_model


@pytest.mark.parametrize(
  ("nodes", "local", "calls"),
  [(2, 1, 3), (3, 1, 2), (1, 2, 3), (2, 2, 1), (4, 1, 2)],
)
def test_trap_06_no_interleaving_of_ll_goes_wrong(nodes, local, calls):
  model = ll_model.Model(plans.Plan(nodes, local), calls)
  assert model.failures() == set()
  assert model.states > 30  # it went somewhere


@pytest.mark.parametrize(
  ("mutant", "nodes", "calls", "failure"),
  [
    ("one slot", 4, 1, "wrong sum"),
    ("no wait", 2, 1, "wrong sum"),
    ("stale flag", 2, 2, "wrong sum"),
    ("flag before data", 2, 1, "wrong sum"),
    ("no deferred wait", 2, 3, "deadlock"),
  ],
)
def test_trap_06_mutants_of_ll_go_wrong(mutant, nodes, calls, failure):
  plan = plans.Plan(nodes, 1)
  assert ll_model.Model(plan, calls, mutant).failures() == {failure}
  assert not ll_model.Model(plan, calls).failures()
