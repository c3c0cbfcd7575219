"""What is modelled of NVRAR and NCCL, and the rules for it."""

import pytest

from experiments.multinode_inference import modelled_claims, modelled_study
from research.runs import errors

K = 1024


def _judged(ratio, **fields):
  settings = modelled_study.Modelled(gpus=(8, 32), assumed=(2.0,), **fields)

  def model(machine, factor, gpus, size):
    return modelled_study.Pair(
      1e-5, 1e-5 * ratio(machine, gpus, size) / factor, "tree/ll"
    )

  found = modelled_study.Found(model=model, scores={})
  return {c.id: c for c in modelled_claims.judge(settings, found)}


def test_a_band_that_comes_out_is_confirmed():
  claims = _judged(lambda machine, gpus, size: 2.0 if gpus == 8 else 3.5)
  for machine in modelled_study.NAMES:
    claim = claims[f"modelled-nvrar-band.{machine}"]
    assert (claim.holds, claim.measured) == (True, "2.00 to 3.50")
    assert claim.paper_value == "1.9 to 3.6"
    assert claim.kind == "modelled"
    assert "10 of 10 cells" in claim.note
    assert "/ 2 1.00 to 1.75" in claim.note
    assert claims[f"modelled-nvrar-faster.{machine}"].holds


@pytest.mark.parametrize("odd", [1.89, 3.61])
def test_one_cell_outside_refutes_its_machine_alone(odd):
  claims = _judged(
    lambda machine, gpus, size: (
      odd if (machine, gpus, size) == ("vista", 32, 2048 * K) else 2.0
    )
  )
  assert claims["modelled-nvrar-band.vista"].holds is False
  assert "9 of 10 cells" in claims["modelled-nvrar-band.vista"].note
  assert claims["modelled-nvrar-band.perlmutter"].holds
  assert claims["modelled-nvrar-faster.vista"].holds


def test_sizes_beyond_the_paper_s_do_not_count():
  claims = _judged(lambda _, __, size: 2 if 128 * K <= size <= 2048 * K else 9)
  assert claims["modelled-nvrar-band.vista"].holds


def test_where_nccl_is_faster_is_named():
  claims = _judged(lambda _, gpus, size: 0.9 if size == 1024 * K else 2.0)
  claim = claims["modelled-nvrar-faster.perlmutter"]
  assert claim.holds is False
  assert "worst on 8 GPUs at 1M, against tree/ll" in claim.note


def test_trap_09_the_rival_is_the_best_that_nccl_has():
  """Slower links slow NVRAR; NCCL's constants for latency are its own."""
  small, large = (
    modelled_study.pair("perlmutter", 1.0, 32, size * K) for size in (8, 16384)
  )
  assert small.choice.startswith("tree")
  assert large.choice.startswith("ring")
  slow = modelled_study.pair("perlmutter", 2.0, 32, 8 * K)
  assert slow.nvrar > small.nvrar
  assert slow.nccl == small.nccl


def test_jobs_that_nvrar_s_authors_do_not_have_are_refused():
  for gpus in (4, 12):
    with pytest.raises(errors.UserError, match=f"modelled.gpus: got {gpus}"):
      modelled_study.Modelled(gpus=(gpus,)).check()
