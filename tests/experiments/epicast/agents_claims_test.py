"""The rules for agents, on runs that nobody made."""

import dataclasses
import re

import numpy as np
import pytest
from scipy import stats

from experiments.epicast import agents_analysis, agents_claims
from tests.experiments.epicast import made_up
from tests.experiments.epicast.made_up import STRONG


def _judged(waves, **fields):
  config = made_up.config()
  found = made_up.outbreaks(waves, config, **fields)
  return {claim.id: claim for claim in agents_claims.judge(config, found)}


def _only(setting, number=2):
  return lambda cell, seed: number if cell.setting == setting else 1


@pytest.mark.parametrize("setting", ["broadcaster", "both"])
def test_generally_is_two_runs_in_five(setting):
  name = f"{setting}-waves"
  assert _judged(_only(setting))[name].holds
  assert _judged(_only(setting))[name].measured == 100
  assert _judged(lambda cell, seed: 1)[name].holds is False

  def half(cell, seed):
    return 2 if cell.setting == setting and seed == 0 else 1

  assert _judged(half)[name].holds
  assert _judged(half)[name].measured == pytest.approx(50)


def test_generally_counts_the_strong_response_alone():
  weak = lambda cell, seed: 1 if cell.cut == STRONG else 3
  claims = _judged(weak)
  assert claims["broadcaster-waves"].measured == 0
  assert claims["broadcaster-waves"].holds is False
  assert claims["strong-over-weak"].measured == -100
  assert claims["strong-over-weak"].holds is False


def test_narrow_is_one_run_in_ten():
  assert _judged(lambda cell, seed: 1)["local-waves"].holds
  few = lambda cell, seed: 2 if cell.fading_days == 20 else 1
  claim = _judged(few)["local-waves"]
  assert (claim.holds, claim.measured) == (False, pytest.approx(100 / 3))
  assert claim.interval is not None
  low, high = claim.interval
  assert isinstance(claim.measured, float)
  assert low < claim.measured < high


def test_trap_07_a_second_wave_without_fear_is_told():
  assert _judged(_only("both"))["calm-one-wave"].holds
  for calm in (0, 2):
    assert _judged(_only("both"), calm=calm)["calm-one-wave"].holds is False


def test_trap_07_noise_in_a_small_town_is_told():
  """Runs whose waves go away in a larger town."""
  waves = lambda cell, seed: 2
  assert _judged(waves)["size-holds"].holds is None
  claim = _judged(waves, larger=1)["size-holds"]
  assert claim.holds is None  # twelve runs are too few
  assert "fewer than 20" in claim.note
  config = made_up.config()
  config.agents.broadcaster.lag = (1, 14)
  for larger, holds in ((1, False), (2, True)):
    found = made_up.outbreaks(waves, config, larger=larger)
    claims = {one.id: one for one in agents_claims.judge(config, found)}
    assert claims["size-holds"].holds is holds


def test_pairs_differ_in_one_thing():
  stronger = lambda cell, seed: 2 if cell.cut == STRONG else 1
  claims = _judged(stronger)
  assert claims["strong-over-weak"].holds
  assert claims["strong-over-weak"].interval == (100, 100)
  assert claims["contagion-ends-waves"].holds is False
  calmer = lambda cell, seed: (
    1 + (cell.setting == "both") * (cell.phi_ff < 0.005)
  )
  claims = _judged(calmer)
  assert claims["contagion-ends-waves"].measured == 100
  assert claims["strong-over-weak"].measured == 0


def test_a_difference_in_some_cells_is_no_difference():
  mixed = lambda cell, seed: (
    2 if (cell.cut == STRONG) == (cell.fading_days == 45) else 1
  )
  claim = _judged(mixed)["strong-over-weak"]
  assert claim.measured == pytest.approx(-100 / 3)
  assert claim.holds is False
  assert claim.interval is not None
  low, high = claim.interval
  assert isinstance(claim.measured, float)
  assert low < claim.measured < high


def test_few_runs_are_not_judged():
  config = made_up.config()
  config.agents.seeds = 1
  found = made_up.outbreaks(lambda cell, seed: 2, config)
  claims = {one.id: one for one in agents_claims.judge(config, found)}
  for name in ("broadcaster-waves", "both-waves"):
    assert claims[name].holds is None
    assert claims[name].measured == 100
    assert "not judged: 12 runs, fewer than 20" in claims[name].note
  assert claims["strong-over-weak"].holds is False  # 24 runs


def test_trap_14_no_figure_of_the_paper_is_quoted():
  for claim in _judged(_only("both")).values():
    assert claim.paper_value is None or not any(
      letter.isdigit() for letter in str(claim.paper_value)
    )
    assert claim.scope != "paper"


@pytest.mark.parametrize(("hits", "number"), [(0, 36), (5, 24), (24, 24)])
def test_wilson_is_scipy_s(hits, number):
  want = stats.binomtest(hits, number).proportion_ci(method="wilson")
  got = agents_analysis.wilson(hits / number, number)
  np.testing.assert_allclose(got, (want.low, want.high), atol=1e-12)


def test_tables_average_over_what_they_leave_out():
  found = made_up.outbreaks(
    lambda cell, seed: 2 if cell.phi_sf == 1.0 and seed == 0 else 1
  )
  rows, columns, shares = agents_analysis.table(
    found, lambda cell: cell.setting == "local", "phi_ff", "fading_days"
  )
  assert (rows, columns) == ([0.0, 0.001, 0.01], [20.0, 45.0, 100.0])
  np.testing.assert_allclose(shares, 0.25)


def test_the_middle_cell_is_one_by_order():
  found = made_up.outbreaks(lambda cell, seed: cell.strength > 50)
  cell = agents_analysis.middle(found, "broadcaster", STRONG)
  assert (cell.fading_days, cell.strength) == (45.0, 100.0)
  none = dataclasses.replace(found, calm=[])
  assert agents_analysis.middle(none, "broadcaster", STRONG) == cell


def test_trap_14_no_figure_is_taken_for_the_papers():
  """Its tables were not available: beside ours stand words alone."""
  for claim in _judged(_only("both")).values():
    assert not re.search(r"\d", str(claim.paper_value or ""))
    assert claim.scope in ("mechanism", "beyond")
