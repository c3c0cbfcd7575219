"""How quality and traffic are compared and judged, on made-up measurements."""

import math
from typing import Any

import numpy as np
import pytest

from experiments import policies
from experiments.sift_attention import config as config_lib
from experiments.sift_attention import (
  quality_analysis,
  quality_claims,
  quality_study,
  retrieval,
  roofline,
)
from research.runs import errors

TEXTS = ["a"] * 6 + ["b"] * 6
PAPER = "power_law:level=0.875,warmup=64"
CONTROLLED = "fixed_beta:level=0.75,target=0.25"
PEERS = ("relative_to_max:scale=1", "relative_to_max:scale=8")
NULL = ("fixed_beta:level=0.75", "fixed_beta:level=0.875")


def _setting(rows, percent, kept=0.2, noise=1e-4, seed=0):
  generator = np.random.default_rng(seed)
  spread = noise * generator.standard_normal(len(TEXTS))
  heads = np.broadcast_to(np.asarray(kept, float), (len(TEXTS), 2, 4)).copy()
  dense = 3 + np.linspace(0, 0.5, len(TEXTS))
  return quality_analysis.Measured(
    nll=dense + math.log1p(percent / 100) + spread,
    dense=dense,
    kept=heads,
    rows={1: np.full(len(TEXTS), rows), 64: np.full(len(TEXTS), 0.95)},
    mass=np.full((len(TEXTS), 2, 4), 0.9),
  )


def _judge(settings, **found) -> dict[str, Any]:
  config = config_lib.Config(
    quality=config_lib.Quality(policies=tuple(settings), prompts=(512,))
  )
  made: dict[str, Any] = {
    "raw": {},
    "warmups": {},
    "prompts": {},
    "retrieval": {},
  } | found
  quality = quality_analysis.Quality(texts=TEXTS, policies=settings, **made)
  return {c.id: c for c in quality_claims.judge(config, quality)}


def test_policies_are_compared_at_equal_rows():
  """Trap 11: at its own settings the peer seems worse, at equal rows not."""
  found = _judge(
    {
      PAPER: _setting(0.3, 5),
      PEERS[0]: _setting(0.4, 2),
      PEERS[1]: _setting(0.2, 6),
    }
  )
  claim = found["beats-relative-to-max"]
  share = math.log(0.3 / 0.2) / math.log(0.4 / 0.2)
  peer = (1 - share) * math.log(1.06) + share * math.log(1.02)
  assert claim.measured == pytest.approx(
    100 * (math.log(1.05) - peer), abs=0.02
  )
  assert claim.holds is False
  low, high = claim.interval
  assert low <= claim.measured <= high


def test_no_curve_is_read_beyond_its_ends():
  found = _judge(
    {
      PAPER: _setting(0.5, 5),
      PEERS[0]: _setting(0.4, 2),
      PEERS[1]: _setting(0.2, 6),
    }
  )
  claim = found["beats-relative-to-max"]
  assert claim.measured is None
  assert claim.holds is None


def test_draws_may_swap_settings_that_read_alike():
  curve = quality_analysis.Curve(
    ["a", "b"], np.array([[0.2, 0.4], [0.4, 0.2]]), np.array([[6, 2], [2, 6.0]])
  )
  found = curve.penalty_at(np.array([0.3, 0.3]))
  assert found[0] == found[1]
  assert 2 < found[0] < 6


def test_trap_03_a_law_that_is_its_null_does_not_beat_it():
  found = _judge(
    {
      PAPER: _setting(0.3, 4, noise=0.01),
      NULL[0]: _setting(0.3, 4, noise=0.01, seed=1),
      NULL[1]: _setting(0.31, 4, noise=0.01, seed=2),
    }
  )
  assert found["beats-fixed-beta"].holds is False


def test_the_controller_is_not_its_open_loop():
  assert quality_analysis.family(CONTROLLED) != quality_analysis.family(NULL[0])


def test_trap_04_one_head_that_misses_fails_the_budget():
  """An average over heads that is right says nothing of each."""
  heads = np.full((len(TEXTS), 2, 4), 0.25)
  assert _judge({CONTROLLED: _setting(0.4, 3, heads)})[
    "closed-loop-budget"
  ].holds
  heads[3, 1, 2], heads[3, 0, 0] = 0.27, 0.23
  assert heads.mean() == pytest.approx(0.25)
  claim = _judge({CONTROLLED: _setting(0.4, 3, heads)})["closed-loop-budget"]
  assert claim.holds is False
  assert claim.measured == pytest.approx(0.02)


@pytest.mark.parametrize(
  ("settings", "rows"),
  [
    ([(0.4, 1), (0.2, 5)], 0.2**0.5 * 0.4**0.5),
    ([(0.4, 1), (0.2, 2)], 0.2),  # even the fewest rows are good enough
    ([(0.4, 4), (0.2, 5)], None),  # never good enough
    ([(0.4, 1), (0.3, 5), (0.2, 1)], 0.4**0.5 * 0.3**0.5),  # leaves once
  ],
)
def test_rows_at_the_limit(settings, rows):
  made = {
    f"relative_to_max:scale={index}": _setting(at, percent, noise=0)
    for index, (at, percent) in enumerate(settings, 1)
  }
  claim = _judge(made)["best-policy-rows"]
  if rows is None:
    assert claim.measured is None
  else:
    assert claim.measured == pytest.approx(rows, rel=0.01)
    assert claim.holds is (rows <= 0.2)


def test_trap_10_bytes_are_those_of_rows_after_the_union():
  found = _judge({PAPER: _setting(0.4, 5, kept=0.2)})
  assert found["fewer-reads"].measured == pytest.approx(0.3)
  assert found["union-costs"].measured == pytest.approx(2)
  assert found["blocks-save-little"].measured == pytest.approx(0.05 / 0.6)


def test_a_claim_of_the_clock_is_a_model_and_says_what_went_in():
  claim = _judge({PAPER: _setting(0.4, 5)})["modelled-latency"]
  assert claim.kind == "modelled"
  for text in ("1555 GB/s", "data sheet", "0.400 (measured here)"):
    assert text in claim.note


def test_no_speed_up_passes_the_ceiling():
  for shape in roofline.SHAPES:
    made = roofline.model(shape, roofline.GPUS[2], 0.0)
    assert 1 < made.dense_seconds / made.seconds < roofline.CEILING
    whole = roofline.model(shape, roofline.GPUS[2], 1.0)
    assert whole.seconds > whole.dense_seconds  # scores are spilled for nothing


def test_the_bootstrap_keeps_texts_apart():
  weights = quality_analysis.draws(TEXTS, 0)
  np.testing.assert_allclose(weights.sum(1), 1)
  np.testing.assert_allclose(weights[:, :6].sum(1), 0.5)
  np.testing.assert_allclose(weights[0], 1 / 12)


def test_single_windows_are_one_pool():
  """Else an interval over one window of each text has no width."""
  weights = quality_analysis.draws(["a", "b", "c"], 0)
  assert weights[1:].std(0).min() > 0.1


def test_names_of_units_differ():
  settings = config_lib.Quality()
  arms = [
    *quality_study.compared_arms(settings),
    *quality_study.few_arms(settings),
  ]
  assert len({arm.name for arm in arms}) == len(set(arms))
  for arm in arms:
    assert policies.parse(arm.policy).policy == arm.attention().policy


def test_trap_11_every_warm_up_is_exact_for_all():
  settings = config_lib.Quality()
  for arm in quality_study.compared_arms(settings):
    policy = policies.parse(arm.policy).policy
    inner = getattr(policy, "inner", policy)
    assert arm.exact_steps >= getattr(inner, "warmup", 0)
  firsts = {arm.first for arm in quality_study.warmup_arms(settings).values()}
  assert firsts == {max(settings.warmups)}


def test_settings_that_do_not_fit_have_one_line():
  quality = config_lib.Quality(paper_policy="power_law:level=0.5")
  with pytest.raises(errors.UserError, match="expected one of policies="):
    quality.check()
  with pytest.raises(errors.UserError, match="exact steps; widen it"):
    config_lib.Quality(window_size=512).check()


def test_a_retrieval_prompt_ends_with_the_right_answer(smollm2_words):
  words = smollm2_words
  tokens, answer = retrieval.prompt(words.encode, 256, (0, 256, 1))
  text = words.decode(tokens.tolist())
  name, code = text.rsplit("The code of ", 1)[1].split(" is ")
  assert f"The code of {name} is {code}.\n" in text
  assert words.decode(tokens[-answer:].tolist()).strip() == code
  assert len(tokens) <= 256
