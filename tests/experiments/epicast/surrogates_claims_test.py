"""The rules for surrogates, on findings that nobody computed."""

from typing import Literal

import numpy as np
import pytest

from experiments.epicast import speed, surrogates_claims, surrogates_study
from research.systems.epicast.surrogates import examples, model
from research.telemetry import bench
from tests.experiments.epicast import made_up


def _judged(**changes):
  found = made_up.findings(**changes)
  claims = surrogates_claims.judge(made_up.config(), found)
  return {claim.id: claim for claim in claims}


def test_everything_holds_as_made_up():
  assert all(claim.holds for claim in _judged().values())


@pytest.mark.parametrize("waves", [(1, 1, 1), (2, 2, 3), (0, 0, 2)])
@pytest.mark.parametrize("one", [*examples.EXAMPLES.values()])
def test_a_second_wave_has_to_fail_and_to_succeed(waves, one):
  lines = dict(made_up.findings().lines)
  name = one.model.name
  lines[name] = lines[name]._replace(waves=np.array(waves))
  claims = _judged(lines=lines)
  failed = [claim.id for claim in claims.values() if not claim.holds]
  assert len(failed) == 1
  assert failed[0].startswith("second-wave-")
  assert one.varied in claims[failed[0]].statement


def test_the_paper_s_parameters_are_varied():
  varied = [one.varied for one in examples.EXAMPLES.values()]
  assert varied == ["rho_f", "sigma_f", "sigma_f"]


@pytest.mark.parametrize(("height", "doubling"), [(0.15, 3.1), (0.21, 6)])
def test_speed_and_trajectory_both_have_to_change(height, doubling):
  calm = dict(made_up.findings().calm)
  calm[model.SEPIIRR.name] = made_up.outbreak(height, doubling)
  claims = _judged(calm=calm)
  assert claims["stages-change-speed"].holds is False
  assert claims["asymptomatic-changes-trajectory"].holds


def test_an_asymptomatic_stage_has_to_change_the_peak():
  afraid = dict(made_up.findings().afraid)
  afraid[model.SIIRR.name] = made_up.outbreak(0.105, 3)
  claim = _judged(afraid=afraid)["asymptomatic-changes-trajectory"]
  assert claim.holds is False
  assert claim.measured == pytest.approx(1.05)


def test_a_broadcaster_has_to_give_more():
  same = np.ones(400, int)
  claim = _judged(media=same)["surrogate-broadcaster-waves"]
  assert (claim.holds, claim.measured, claim.interval) == (False, 0, (0, 0))
  claim = _judged(local=same + 1)["surrogate-broadcaster-waves"]
  assert claim.holds is False
  assert isinstance(claim.measured, float)
  assert claim.measured < -80


@pytest.mark.parametrize(
  ("dispersion", "waves", "holds"),
  [(1.9, (2, 2), True), (2.1, (2, 2), False), (1.0, (2, 1), False)],
)
def test_a_fit_is_good_in_both_ways(dispersion, waves, holds):
  fits = {"broadcaster": made_up.fitted(dispersion, waves)}
  claim = _judged(fits=fits)["fit-broadcaster"]
  assert claim.holds is holds
  assert "off on days 3 to 5" in claim.note
  assert "gamma_f 0.02 ± 0.001 (agents: 0.025)" in claim.note
  assert "at a bound: beta" in claim.note


def test_a_doubling_time_is_read_off_growth():
  days = np.arange(80)
  growing = 1e-6 * 2 ** (days / 4)
  curve = np.concatenate([growing, growing[::-1]])
  assert surrogates_study._doubling(curve) == pytest.approx(4)


def _row(
  median: float | None, verdict: Literal["judged", "contended"] = "judged"
) -> bench.BenchResult:
  return bench.BenchResult(
    name="agents with fear",
    unit="CPU-s/million agent-days",
    median=median,
    p25=median,
    p75=median,
    rounds_kept=5,
    rounds_dropped=0,
    verdict=verdict,
    meta={
      "agents": 1000,
      "days": 30,
      "infected before": 0.1,
      "infected after": 0.5,
    },
  )


@pytest.mark.parametrize(
  ("row", "holds"),
  [
    (_row(0.09), True),
    (_row(0.11), False),
    (_row(0.09, "contended"), None),
    (_row(None, "contended"), None),
  ],
)
def test_speed_is_per_cpu_second(row, holds):
  claim = speed.judge((row,))
  assert (claim.holds, claim.time_dependent) == (holds, True)
  if row.median:
    assert claim.measured == pytest.approx(1e6 / row.median)
