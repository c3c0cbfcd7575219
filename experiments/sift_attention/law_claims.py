"""What is claimed of the power law, and the rule by which each claim is judged.

The paper's abstract states the law; its figures are not quoted, because only
the abstract could be verified.
"""

import math

import numpy as np

from experiments.sift_attention import config as config_lib
from experiments.sift_attention.law_analysis import METHODS, Findings
from research import runs
from research.systems.sift_attention import power_law

GOOD_FIT = 0.9  # a share of variance below which "follows" is too strong
SAME_BETA = 0.2  # spread of beta between texts that still counts as consistent
FACTOR_TWO = math.log(2)  # nats
SAME_FIT = 0.05  # difference in beta that log-spaced steps may cause

_STATED = "stated in the abstract"


def judge(config: config_lib.Config, found: Findings) -> tuple[runs.Claim, ...]:
  """Judges every claim.

  Args:
    config: the settings.
    found: the findings.

  Returns:
    The claims, the paper's first.
  """
  return (
    _average_law(found),
    _head_law(found),
    _consistent(found),
    _not_one(config, found),
    _beats_null(config, found),
    _warmup(config, found),
    _falls(config, found),
    _rows(found),
  )


def _average_law(found: Findings) -> runs.Claim:
  worst = float(np.median(found.average.r2, axis=0).min())
  return runs.Claim(
    id="average-law",
    statement="Averaged over all heads, the quantiles of attention scores "
    "follow a power law over generation steps",
    paper_value=_STATED,
    measured=worst,
    unit="R²",
    kind="measured",
    scope="mechanism",
    holds=worst >= GOOD_FIT,
    note=f"median over windows at the worst level; rule: at least {GOOD_FIT}",
  )


def _head_law(found: Findings) -> runs.Claim:
  by_level = np.median(found.heads.r2, axis=(0, 1, 2))
  worst = float(by_level.min())
  return runs.Claim(
    id="head-law",
    statement="In a single head of a single layer they do so too",
    paper_value=_STATED,
    measured=worst,
    unit="R²",
    kind="measured",
    scope="mechanism",
    holds=worst >= GOOD_FIT,
    note="median over heads and windows at the worst level; rule: at least "
    f"{GOOD_FIT}; 5 % of heads are below "
    f"{np.quantile(found.heads.r2, 0.05):.2f}",
  )


def _consistent(found: Findings) -> runs.Claim:
  names = sorted(set(found.texts))
  by_text = np.stack(
    [
      found.average.beta[[text == name for text in found.texts]].mean(0)
      for name in names
    ]
  )
  spread = float(np.ptp(by_text, axis=0).max())
  return runs.Claim(
    id="consistent",
    statement="The law is consistent across texts",
    paper_value=_STATED,
    measured=spread,
    unit="spread of β",
    kind="measured",
    scope="mechanism",
    holds=spread <= SAME_BETA if len(names) > 1 else None,
    note=f"largest difference of mean β between {len(names)} texts at any "
    f"level; one model; rule: at most {SAME_BETA}",
  )


def _not_one(config: config_lib.Config, found: Findings) -> runs.Claim:
  level = config.levels.index(config.headline_level)
  low, high = power_law.bootstrap_interval(found.average.beta, seed=config.seed)
  return runs.Claim(
    id="beta-not-one",
    statement="The exponent differs from 1, which any head whose scores keep "
    "their shape would have",
    paper_value=None,
    measured=float(found.average.beta[:, level].mean()),
    unit=f"β at τ={config.headline_level}",
    kind="measured",
    scope="beyond",
    holds=bool(((low > 1) | (high < 1)).all()),
    interval=(float(low[level]), float(high[level])),
    note="95 % bootstrap interval over windows; rule: it excludes 1 at every "
    "level",
  )


def _beats_null(config: config_lib.Config, found: Findings) -> runs.Claim:
  law, null = (
    np.quantile(found.errors[name][config.headline_warmup], 0.9)
    for name in (METHODS[0], METHODS[2])
  )
  return runs.Claim(
    id="beats-null",
    statement="Extrapolated from a warm-up, the power law predicts thresholds "
    "better than β = 1 does",
    paper_value=None,
    measured=float(law / null),
    unit="× the error of β = 1",
    kind="measured",
    scope="beyond",
    holds=bool(law < null),
    note=f"90th percentile of |log error| over heads, warm-up "
    f"{config.headline_warmup}: {law:.2f} against {null:.2f} nats; rule: below "
    "1",
  )


def _warmup(config: config_lib.Config, found: Findings) -> runs.Claim:
  error = float(
    np.quantile(found.errors[METHODS[0]][config.headline_warmup], 0.9)
  )
  return runs.Claim(
    id="warmup-suffices",
    statement=f"After {config.headline_warmup} warm-up steps the threshold is "
    "within a factor of two for nine heads in ten",
    paper_value=None,
    measured=error,
    unit="nats",
    kind="measured",
    scope="mechanism",
    holds=error <= FACTOR_TWO,
    note="90th percentile of |log error| over the windows' second halves; "
    f"rule: at most ln 2 = {FACTOR_TWO:.2f}",
  )


def _falls(config: config_lib.Config, found: Findings) -> runs.Claim:
  drop = found.average.beta[:, :1] - found.average.beta[:, -1:]
  low, high = power_law.bootstrap_interval(drop, seed=config.seed)
  return runs.Claim(
    id="beta-falls",
    statement="Higher quantiles fall more slowly",
    paper_value=None,
    measured=float(drop.mean()),
    unit=f"β at τ={config.levels[0]} minus β at τ={config.levels[-1]}",
    kind="measured",
    scope="beyond",
    holds=bool(low[0] > 0),
    interval=(float(low[0]), float(high[0])),
    note="rule: the 95 % bootstrap interval over windows is above 0",
  )


def _rows(found: Findings) -> runs.Claim:
  difference = float(np.median(found.check_beta))
  return runs.Claim(
    id="rows-suffice",
    statement="Log-spaced steps give the exponents that all steps give",
    paper_value=None,
    measured=difference,
    unit="difference in β",
    kind="measured",
    scope="beyond",
    holds=difference <= SAME_FIT,
    note="median over heads of one window measured at every step; rule: at "
    f"most {SAME_FIT}",
  )
