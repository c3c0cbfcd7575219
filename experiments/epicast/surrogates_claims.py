"""What is claimed of the surrogate equations, and how each claim is judged.

Rules were written before the first laptop or full run. The paper's equations
were not available: these are our reading of its abstract, of the names in the
caption of its Fig. 1 and of Epstein et al. 2008, so its sentences are tested
for the mechanism only.
"""

import numpy as np

from experiments.epicast import agents_analysis
from experiments.epicast import config as config_lib
from experiments.epicast.surrogates_study import (
  DAYS,
  R0,
  Findings,
  Fitted,
  Line,
  Outbreak,
)
from research import runs
from research.systems.epicast.surrogates import model

OTHER = 0.1  # relative difference from which a stage changes an outbreak
GOOD = 2.0  # dispersion up to which a fit is good; noise of counts has 1

_SLUGS = {
  model.SIR.name: "sir",
  model.SIIRR.name: "siirr",
  model.SEPIIRR.name: "sepiirr",
}
_FIGURE = "fails for some values and succeeds for others (Fig. 1)"
_STAGES = "can impact both rate and trajectory"


def judge(config: config_lib.Config, found: Findings) -> tuple[runs.Claim, ...]:
  """Judges every claim about surrogates.

  Args:
    config: the settings.
    found: the findings.

  Returns:
    The claims, those of the paper's Fig. 1 first.
  """
  return (
    *(_second(name, line) for name, line in found.lines.items()),
    _speed(found.calm),
    _asymptomatic(found.afraid),
    _media(found, config.seed),
    *(_fit(name, one) for name, one in found.fits.items()),
  )


def _second(name: str, line: Line) -> runs.Claim:
  several = line.waves >= 2
  told = (
    f"{line.values[several].min():.3g} to {line.values[several].max():.3g}"
    if several.any()
    else "none"
  )
  return runs.Claim(
    id=f"second-wave-{_SLUGS[name]}",
    statement=f"{name}: a second wave within {DAYS} days fails for some values "
    f"of {line.varied} and succeeds for others",
    paper_value=_FIGURE,
    measured=told,
    unit=f"{line.varied} with several waves",
    kind="measured",
    scope="mechanism",
    holds=bool(several.any() and (line.waves == 1).any()),
    note=f"{several.sum()} of {len(line.waves)} values; the other parameters "
    "are ours; rule: one wave at some value, two or more at another",
  )


def _off(one: float, other: float) -> bool:
  return abs(one / other - 1) >= OTHER


def _speed(calm: dict[str, Outbreak]) -> runs.Claim:
  short, long = calm[model.SIR.name], calm[model.SEPIIRR.name]
  peak = long.infectious.max() / short.infectious.max()
  return runs.Claim(
    id="stages-change-speed",
    statement="Exposed and presymptomatic stages change how fast an outbreak "
    "grows, and its trajectory, at the same reproduction number",
    paper_value=_STAGES,
    measured=long.doubling / short.doubling,
    unit="times the doubling time",
    kind="measured",
    scope="mechanism",
    holds=_off(long.doubling, short.doubling) and bool(_off(peak, 1.0)),
    note=f"R0 {R0}, no fear; doubling in {short.doubling:.1f} and "
    f"{long.doubling:.1f} days, peak on day {short.infectious.argmax()} and "
    f"{long.infectious.argmax()}, its height {peak:.2f} times; rule: doubling "
    f"time and height both differ by {OTHER:.0%} or more",
  )


def _asymptomatic(afraid: dict[str, Outbreak]) -> runs.Claim:
  all_ill, some_ill = afraid[model.SIR.name], afraid[model.SIIRR.name]
  peak = float(some_ill.infectious.max() / all_ill.infectious.max())
  return runs.Claim(
    id="asymptomatic-changes-trajectory",
    statement="With fear of people who have symptoms, an asymptomatic stage "
    "changes the trajectory, at the same reproduction number",
    paper_value=_STAGES,
    measured=peak,
    unit="times the peak",
    kind="measured",
    scope="mechanism",
    holds=_off(peak, 1.0),
    note=f"R0 {R0}; peak on day {all_ill.infectious.argmax()} and "
    f"{some_ill.infectious.argmax()}; without fear both models are the same; "
    f"rule: the height differs by {OTHER:.0%} or more",
  )


def _media(found: Findings, seed: int) -> runs.Claim:
  difference = (found.media >= 2).astype(float) - (found.local >= 2)
  low, high = agents_analysis.mean_interval(difference, seed)
  return runs.Claim(
    id="surrogate-broadcaster-waves",
    statement="At random points of SEPI_sI_aR_sR_a×NF a broadcaster gives "
    "several waves more often than fear by contact",
    paper_value=None,
    measured=100 * float(difference.mean()),
    unit="points of the share of runs",
    kind="measured",
    scope="beyond",
    holds=low > 0,
    interval=(100 * low, 100 * high),
    note=f"{np.mean(found.media >= 2):.1%} against "
    f"{np.mean(found.local >= 2):.1%} of {len(found.local)} points with the "
    "same reproduction number, sigma_f and gamma_f; rule: the 95 % bootstrap "
    "interval of the difference is above 0",
  )


def _fit(name: str, one: Fitted) -> runs.Claim:
  found = one.fit
  off = ", ".join(f"{bad.first} to {bad.last}" for bad in found.misfits)
  values = "; ".join(
    f"{key} {getattr(found.parameters, key):.3g} ± {error:.2g}"
    + (f" (agents: {one.true[key]:.3g})" if key in one.true else "")
    for key, error in found.errors.items()
  )
  bounds = ", ".join(found.at_bounds)
  return runs.Claim(
    id=f"fit-{name.replace(' ', '-')}",
    statement=f"Fitted to a run of agents ({name}), the equations come within "
    f"{GOOD:g} times the variance of counts, and have as many waves",
    paper_value=None,
    measured=found.dispersion,
    unit="dispersion",
    kind="measured",
    scope="beyond",
    holds=found.dispersion <= GOOD and one.waves[0] == one.waves[1],
    note=f"rule: at most {GOOD:g} (1 is noise), as many waves; agents have "
    f"{one.waves[0]}, the equations {one.waves[1]}; {values}"
    + (f"; at a bound: {bounds}" if bounds else "")
    + (f"; off on days {off}" if off else ""),
  )
