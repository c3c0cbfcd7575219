"""The rules for training, on steps that nobody took."""

import pytest

from experiments.pccl import training_claims
from tests.experiments.pccl import made_up


def _judged(**fields):
  found = made_up.findings(lambda name, size: 1.0, **fields)
  return {claim.id: claim for claim in training_claims.judge(found)}


def test_steps_are_judged_by_the_ratio_of_medians():
  slow = lambda case: 1.5 if "ring" in case else 1.0
  found = _judged(step=slow)
  for kind in ("zero3", "ddp"):
    assert found[f"{kind}-step-over-ring"].holds
    claim = found[f"{kind}-step-over-best-flat"]
    assert claim.holds
    assert claim.measured == pytest.approx(1.5, rel=0.02)
  found = _judged(step=lambda case: 1.3 if "ring" in case else 1.0)
  assert found["zero3-step-over-ring"].holds is False
  assert found["zero3-step-over-best-flat"].holds
  assert found["zero3-step-over-xla"].holds is None


def test_no_gain_is_no_claim():
  found = _judged(noise=0.1)
  assert found["zero3-step-over-best-flat"].holds is False


def test_without_links_losses_and_bytes_are_still_judged():
  found = _judged(reason="skipped, no links")
  timed = {claim.id for claim in found.values() if claim.time_dependent}
  assert timed == {
    f"{kind}-step-over-{rival}"
    for kind in ("zero3", "ddp")
    for rival in ("ring", "xla", "best-flat")
  }
  for claim in found.values():
    if claim.id in timed:
      assert (claim.measured, claim.holds) == (None, None)
      assert claim.note == "not judged: skipped, no links"
    else:
      assert claim.holds


def test_trap_an_algorithm_that_sums_wrong_has_other_losses():
  """Trap: a fast step that trains something else."""
  wrong = made_up.case("ddp:ring", losses=(5.0, 4.5, 4.001))
  claim = _judged(cases=made_up.trained(ddp_ring=wrong))["losses-equal"]
  assert claim.holds is False
  assert claim.measured == pytest.approx(0.001)
  assert _judged()["losses-equal"].holds


def test_losses_that_do_not_fall_show_nothing():
  still = {
    name: [made_up.case(name, losses=(5.0, 5.0, 5.0))] for name in made_up.CASES
  }
  assert _judged(cases=still)["losses-equal"].holds is False


@pytest.mark.parametrize("sent", [900.0, 1100.0])
def test_bytes_other_than_the_formula_s_are_seen(sent):
  odd = made_up.case("zero3:ring", rank_bytes=sent)
  claim = _judged(cases=made_up.trained(zero3_ring=odd))["bytes-as-formula"]
  assert claim.holds is False
  assert claim.kind == "compiled"
  assert "zero3 ring" in claim.note


def test_bytes_between_nodes_are_against_the_leanest_flat_one():
  found = _judged()
  assert found["zero3-bytes-between-nodes"].measured == pytest.approx(0.75)
  assert found["zero3-bytes-between-nodes"].holds
  lean = made_up.case("ddp:ring", port_bytes=500.0)
  found = _judged(cases=made_up.trained(ddp_ring=lean))
  assert found["ddp-bytes-between-nodes"].holds is False
