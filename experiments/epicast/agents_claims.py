"""What is claimed of waves among agents, and how each claim is judged.

Rules were written before the first laptop or full run. A run has as many waves
as `research.systems.epicast.waves.RULE` finds in the share of people who are
infectious: peaks of the 7-day mean with a prominence of at least 0.2 % of the
people and of three standard deviations of such a count. Nothing but fear can
make a second one: there are no seasons, no policies, no cases from outside, and
who has recovered stays immune.

The paper's figures and tables were not available. Beside our shares stand the
words of its abstract.
"""

import dataclasses

import numpy as np

from experiments.epicast import agents_analysis as analysis
from experiments.epicast import config as config_lib
from experiments.epicast.agents_analysis import Share
from experiments.epicast.agents_study import Outbreaks
from research import runs

GENERALLY = 0.4  # share of runs from which "generally" is granted
NARROW = 0.1  # and up to which a range is "narrow"
ENOUGH = 20  # runs, below which no share is judged
SAME_SIZE = 0.15  # difference of shares that a larger town may make

_GENERAL = "generally multiple waves"
_RANGE = "only within a narrow parameter range"


def judge(
  config: config_lib.Config, outbreaks: Outbreaks
) -> tuple[runs.Claim, ...]:
  """Judges every claim about agents.

  Args:
    config: the settings.
    outbreaks: all runs.

  Returns:
    The claims, the headline first.
  """
  strong = config.agents.cuts[-1]
  cut = f"people avoid {strong:.0%} of contacts outside the household"
  of = lambda setting: analysis.share(
    outbreaks, lambda cell: cell.setting == setting and cell.cut == strong
  )
  return (
    _share(
      "broadcaster-waves",
      f"With broadcasters alone and a strong response ({cut}), fear generally "
      "leads to several waves",
      _GENERAL,
      of("broadcaster"),
      at_least=GENERALLY,
    ),
    _share(
      "both-waves",
      "With broadcasters, contagion of fear and a strong response likewise",
      _GENERAL,
      of("both"),
      at_least=GENERALLY,
    ),
    _share(
      "local-waves",
      "Where fear spreads by contact alone, only a narrow range of parameters "
      "gives several waves",
      _RANGE,
      analysis.share(outbreaks, lambda cell: cell.setting == "local"),
      at_most=NARROW,
    ),
    _calm(outbreaks),
    _paired(
      "strong-over-weak",
      "With broadcasters, a strong response gives several waves more often "
      "than a weak one",
      analysis.paired(
        outbreaks, "broadcaster", "cut", strong, config.agents.cuts[0]
      ),
      config,
    ),
    _paired(
      "contagion-ends-waves",
      "Beside broadcasters, fear that passes on strongly from person to person "
      "gives several waves less often than fear that passes on weakly",
      analysis.paired(
        outbreaks,
        "both",
        "phi_ff",
        min(config.agents.both.phi_ff),
        max(config.agents.both.phi_ff),
      ),
      config,
    ),
    _larger(outbreaks),
  )


def _share(
  name: str,
  statement: str,
  paper: str,
  found: Share,
  *,
  at_least: float = 0.0,
  at_most: float = 1.0,
) -> runs.Claim:
  rule = f"at least {at_least:.0%}" if at_least else f"at most {at_most:.0%}"
  holds = bool(at_least <= found.value <= at_most)
  note = (
    f"share of {found.runs} runs ({found.cells} cells of the grid); rule: "
    f"{rule}; Wilson interval with a cell as one observation"
  )
  return _enough(
    runs.Claim(
      id=name,
      statement=statement,
      paper_value=paper,
      measured=100 * found.value,
      unit="% of runs",
      kind="measured",
      scope="mechanism",
      holds=holds,
      interval=(100 * found.low, 100 * found.high),
      note=note,
    ),
    found.runs,
  )


def _enough(claim: runs.Claim, number: int) -> runs.Claim:
  """Takes the verdict back where there are too few runs for a share."""
  if number >= ENOUGH:
    return claim
  note = f"{claim.note}; not judged: {number} runs, fewer than {ENOUGH}"
  return dataclasses.replace(claim, holds=None, note=note)


def _calm(outbreaks: Outbreaks) -> runs.Claim:
  counts = np.array([run.waves for run in outbreaks.calm])
  return runs.Claim(
    id="calm-one-wave",
    statement="Without fear every run has exactly one wave",
    paper_value=None,
    measured=f"{counts.min()} to {counts.max()}",
    unit="waves",
    kind="measured",
    scope="beyond",
    holds=bool((counts == 1).all()),
    note=f"{len(counts)} runs, attack rates "
    f"{min(run.attack for run in outbreaks.calm):.0%} to "
    f"{max(run.attack for run in outbreaks.calm):.0%}; rule: one in each",
  )


def _paired(
  name: str,
  statement: str,
  differences: np.ndarray,
  config: config_lib.Config,
) -> runs.Claim:
  low, high = analysis.mean_interval(differences, config.seed)
  return _enough(
    runs.Claim(
      id=name,
      statement=statement,
      paper_value=None,
      measured=100 * float(differences.mean()),
      unit="points of the share of runs",
      kind="measured",
      scope="mechanism" if name == "strong-over-weak" else "beyond",
      holds=low > 0,
      interval=(100 * low, 100 * high),
      note=f"mean over {len(differences)} pairs of cells that differ in "
      "nothing else, with the same seeds; rule: the 95 % bootstrap interval "
      "over pairs is above 0",
    ),
    2 * len(differences) * config.agents.seeds,
  )


def _larger(outbreaks: Outbreaks) -> runs.Claim:
  claim = runs.Claim(
    id="size-holds",
    statement="In a larger town as many of the broadcaster's strong runs have "
    "several waves",
    paper_value=None,
    measured=None,
    unit="points of the share of runs",
    kind="measured",
    scope="beyond",
    holds=None,
    note="not judged: this config runs no larger town",
  )
  if not outbreaks.larger:
    return claim
  small = analysis.share(outbreaks, lambda cell: cell in outbreaks.larger)
  large = float(np.mean([count >= 2 for count in outbreaks.larger.values()]))
  difference = large - small.value
  return _enough(
    dataclasses.replace(
      claim,
      measured=100 * difference,
      holds=abs(difference) <= SAME_SIZE,
      note=f"{large:.0%} of {len(outbreaks.larger)} runs against "
      f"{small.value:.0%}; rule: within {100 * SAME_SIZE:.0f} points",
    ),
    len(outbreaks.larger),
  )
