"""What the surrogate equations say, drawn."""

import numpy as np

from experiments.epicast.surrogates_study import R0, Findings
from research import runs
from research.runs import figures

_MOST = 4  # waves that have a colour of their own


def draw(found: Findings, context: runs.Context) -> None:
  """Draws all figures of surrogates.

  Args:
    found: the findings.
    context: where to put them.
  """
  with figures.style():
    _diagrams(found, context)
    _stages(found, context)
    if found.fits:
      _fits(found, context)


def _diagrams(found: Findings, context) -> None:
  fig, axes = figures.subplots(1, len(found.diagrams), height=2.9, sharey=True)
  for panel, (name, diagram) in zip(axes, found.diagrams.items(), strict=True):
    rho = np.log10(diagram.values[0])
    panel.imshow(
      np.minimum(diagram.outcomes.waves, _MOST).T,
      vmin=-0.5,
      vmax=_MOST + 0.5,
      origin="lower",
      aspect="auto",
      extent=(rho[0], rho[-1], *diagram.values[1][[0, -1]]),
      cmap=_colours(_MOST + 1),
    )
    ticks = range(round(rho[0]), 1)
    panel.set_xticks(ticks, [f"{10.0**tick:g}" for tick in ticks])
    panel.grid(False)
    panel.set(xlabel="ρ_f", title=_mathematical(name))
  axes[0].set_ylabel("σ_f")
  image = axes[0].images[0]
  fig.colorbar(image, ax=axes, label="waves", ticks=range(_MOST + 1))
  context.figure(
    fig,
    "phases",
    title="Waves of the equations",
    caption="Number of waves within 360 days over the chance to become fearful "
    "on recovery (ρ_f, logarithmic) and the susceptibility of the fearful "
    "(σ_f); all other parameters of a panel are fixed, and differ between "
    f"panels. {_MOST} stands for that and more.",
  )


def _colours(number: int):
  import matplotlib

  return matplotlib.colormaps["viridis"].resampled(number)


def _mathematical(name: str) -> str:
  parts = name.removesuffix("×NF")
  for letter in "sa":
    parts = parts.replace(f"_{letter}", f"$_{letter}$")
  return f"{parts}×NF"


def _stages(found: Findings, context) -> None:
  fig, axes = figures.subplots(1, 2, height=2.9, sharey=True)
  kinds = {"no fear": found.calm, "fear of the sick": found.afraid}
  for panel, (title, outbreaks) in zip(axes, kinds.items(), strict=True):
    for style, (name, one) in zip(
      ("-", "--", ":"), outbreaks.items(), strict=True
    ):
      panel.plot(100 * one.infectious, style, label=_mathematical(name))
    panel.set(xlabel="day", title=title, xlim=(0, 360), ylim=(0, None))
  axes[0].set_ylabel("infectious (%)")
  axes[1].legend()
  context.figure(
    fig,
    "stages",
    title="What the stages of the disease change",
    caption=f"Share of people who are infectious, at R0 = {R0} and the same "
    "infectious days. Exposed and presymptomatic stages slow the outbreak "
    "down. Without fear an asymptomatic stage changes nothing at the same R0; "
    "with fear of people who have symptoms it does.",
  )


def _fits(found: Findings, context) -> None:
  fig, axes = figures.subplots(1, len(found.fits), height=2.9)
  for panel, (name, one) in zip(axes, found.fits.items(), strict=True):
    panel.plot(100 * one.observed, label="agents", linewidth=0.9)
    panel.plot(100 * one.fit.curve, "--", label="fitted equations")
    for off in one.fit.misfits:
      panel.axvspan(off.first, off.last, alpha=0.08, color=figures.INK)
    panel.set(xlabel="day", title=name, ylim=(0, None))
  axes[0].set_ylabel("new infections (% a day)")
  axes[0].legend()
  context.figure(
    fig,
    "fits",
    title="Where the equations fail",
    caption="New infections a day in one run of agents, and SEPI_sI_aR_sR_a×NF "
    "fitted to it (right: with a broadcaster). Shaded are weeks in which the "
    "fit is off by more than four standard deviations of such counts.",
  )
