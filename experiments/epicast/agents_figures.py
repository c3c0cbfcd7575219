"""What the runs of agents look like."""

import numpy as np

from experiments.epicast import agents_analysis as analysis
from experiments.epicast import cells
from experiments.epicast import config as config_lib
from experiments.epicast.agents_study import Outbreaks
from research import runs
from research.runs import figures

_NAMES = {
  "local": "contact alone",
  "broadcaster": "broadcaster alone",
  "both": "both",
}
_ROWS = {"local": "phi_ff", "broadcaster": "strength", "both": "phi_ff"}
_LABELS = {"phi_ff": "fear caught of\nthe fearful (φ_ff)", "strength":
  "broadcaster's\nstrength"}  # fmt: skip


def draw(
  config: config_lib.Config, outbreaks: Outbreaks, context: runs.Context
) -> None:
  """Draws all figures of agents.

  Args:
    config: the settings.
    outbreaks: all runs.
    context: where to put them.
  """
  with figures.style():
    _curves(config, outbreaks, context)
    _shares(config, outbreaks, context)
    _attack(config, outbreaks, context)


def _curves(config, outbreaks: Outbreaks, context) -> None:
  strong = config.agents.cuts[-1]
  picked = [None] + [
    analysis.middle(outbreaks, name, strong) for name in cells.SETTINGS
  ]
  fig, axes = figures.subplots(2, 2, height=4.4, sharex=True)
  for panel, cell in zip(axes.flat, picked, strict=True):
    found = outbreaks.cells[cell] if cell else outbreaks.calm
    days = np.arange(1, config.agents.days + 1)
    fields = ("infectious", "fearful") if cell else ("infectious",)
    for index, field in enumerate(fields):
      low, mid, high = 100 * analysis.quantiles(
        [getattr(run, field) for run in found]
      )
      on = panel if index == 0 else panel.twinx()
      colour = figures.PALETTE[index]
      on.plot(days, mid, "-" if index == 0 else "--", color=colour)
      on.fill_between(days, low, high, color=colour, alpha=0.2, linewidth=0)
      on.set_ylim(0)
      on.tick_params(axis="y", colors=colour)
      on.grid(index == 0)
    panel.set_title(_NAMES[cell.setting] if cell else "no fear")
  for panel in axes[1]:
    panel.set_xlabel("day")
  for panel in axes[:, 0]:
    panel.set_ylabel("infectious (%)")
  context.figure(
    fig,
    "waves",
    title="An epidemic with and without fear",
    caption="Share of people who are infectious (solid, left axis) and fearful "
    "(dashed, right axis), in per cent of the people: median and 5 to 95 % of "
    "runs with other seeds. Each panel with fear is the middle cell of its "
    f"grid, where the fearful avoid {strong:.0%} of contacts outside the "
    "household.",
  )


def _shares(config, outbreaks: Outbreaks, context) -> None:
  cuts = config.agents.cuts
  behaviours = (cuts[0], cuts[-1])
  fig, axes = figures.subplots(2, len(cells.SETTINGS), height=4.6)
  for row, cut in enumerate(behaviours):
    for panel, setting in zip(axes[row], cells.SETTINGS, strict=True):
      pick = lambda cell, s=setting, c=cut: cell.setting == s and cell.cut == c
      field = _ROWS[setting]
      down, across, shares = analysis.table(
        outbreaks, pick, field, "fading_days"
      )
      panel.imshow(
        100 * shares, vmin=0, vmax=100, origin="lower", aspect="auto"
      )
      panel.grid(False)
      panel.set_xticks(range(len(across)), [f"{x:g}" for x in across])
      panel.set_yticks(range(len(down)), [f"{y:g}" for y in down])
      panel.set_ylabel(_LABELS[field])
      panel.set_title(f"{_NAMES[setting]},\n{cut:.0%} avoided")
  for panel in axes[1]:
    panel.set_xlabel("days fear lasts")
  image = axes[0, 0].images[0]
  fig.colorbar(image, ax=axes, label="runs with several waves (%)")
  context.figure(
    fig,
    "shares",
    title="Where fear gives several waves",
    caption="Share of runs with two waves or more over the grid, averaged over "
    "its other parameters and seeds; above a weak response, below a strong. "
    "Half the people are fearful where 1 / (days × strength) of them fall ill "
    "a day.",
  )


def _attack(config, outbreaks: Outbreaks, context) -> None:
  fig, axes = figures.subplots(height=3.4)
  groups = [("no fear", [run.attack for run in outbreaks.calm])]
  for setting, name in _NAMES.items():
    for cut in config.agents.cuts:
      rates = [
        run.attack
        for cell, found in outbreaks.cells.items()
        for run in found
        if cell.setting == setting and cell.cut == cut
      ]
      groups.append((f"{name}, {cut:.0%} avoided", rates))
  for place, (_, rates) in enumerate(groups):
    spread = np.linspace(-0.25, 0.25, len(rates))
    dots = dict(color=figures.PALETTE[0], markersize=3)
    axes.plot(100 * np.sort(rates), place + spread, ".", **dots)
    bar = [100 * np.median(rates)] * 2
    axes.plot(bar, [place - 0.35, place + 0.35], color=figures.INK)
  axes.set_yticks(range(len(groups)), [name for name, _ in groups])
  axes.invert_yaxis()
  axes.set(xlabel=f"people infected in {config.agents.days} days (%)")
  axes.set_xlim(0)
  context.figure(
    fig,
    "attack",
    title="What fear saves",
    caption="Attack rates of all runs by setting and behaviour, in order; the "
    "bars are medians. A delay counts as a saving here: a run ends after "
    f"{config.agents.days} days, and who is afraid then may be infected later.",
  )
