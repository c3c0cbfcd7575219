"""Figures of batches answered on emulated links."""

from collections.abc import Sequence

import numpy as np

from experiments import emulated_links
from experiments.multinode_inference.engine_study import Found, Measured
from experiments.tools import step_split
from research import runs
from research.runs import figures

_KINDS = {"prefill": "prefill-heavy", "decode": "decode-heavy"}


def draw(found: Found, context: runs.Context) -> None:
  """Draws and saves a figure for each job that was timed.

  Args:
    found: the findings.
    context: where the figures go.
  """
  jobs: dict[int, list[Measured]] = {}
  for one in found.measured:
    if one.network.cells:
      jobs.setdefault(id(one.job), []).append(one)
  with figures.style():
    for index, kinds in enumerate(jobs.values()):
      _batches(f"engine-{index + 1}", kinds, context)


def _batches(slug: str, kinds: Sequence[Measured], context) -> None:
  cases = list(kinds[0].cases)
  fig, axes = figures.subplots(
    1, len(kinds), height=1.4 + 0.3 * len(cases), sharey=True, squeeze=False
  )
  for ax, one in zip(axes[0], kinds, strict=True):
    _split(ax, one, cases)
    ax.set(title=f"{_KINDS[one.kind]}: {one.job.works[one.kind]}", xlabel="s")
  axes[0][0].set_yticks(range(len(cases)), cases)
  axes[0][0].invert_yaxis()
  fig.legend(
    *axes[0][0].get_legend_handles_labels(),
    ncols=6,
    fontsize=8,
    columnspacing=1,
    loc="lower center",
    bbox_to_anchor=(0.5, 1.0),
  )
  job = kinds[0].job
  context.figure(
    fig,
    slug,
    title=f"Batches of {job.batch}, {job.name}, on emulated links, "
    f"{job.network}",
    caption="Marks are the medians of all batches, lines reach from their 25th "
    "to their 75th percentile; of each the slowest process counts. Bars are "
    "batches that were recorded: where the time of a rank goes in the mean. "
    "Messages count where no work hides them, with the wait for the slowest "
    "rank; `transfer` is what passes outside of all-reduces. Titles are tokens "
    "that a request reads + draws.",
  )


def _split(ax, one: Measured, cases: Sequence[str]) -> None:
  left = [0.0] * len(cases)
  for group in step_split.GROUPS:
    rounds = [one.cases[case] for case in cases]
    seconds = [
      sum(case.split[group] for case in some) / len(some) for some in rounds
    ]
    ax.barh(range(len(cases)), seconds, left=left, label=group, height=0.7)
    left = [a + b for a, b in zip(left, seconds, strict=True)]
  cells = [one.network.cells[case, one.size] for case in cases]
  middle = [row.median_us / 1e6 for row in cells]
  low, high = zip(*(_quartiles(row) for row in cells), strict=True)
  ax.errorbar(
    middle,
    range(len(cases)),
    xerr=[
      [m - a for m, a in zip(middle, low, strict=True)],
      [b - m for m, b in zip(middle, high, strict=True)],
    ],
    fmt="o",
    color=figures.INK,
    markersize=4,
    label="median",
  )


def _quartiles(row: emulated_links.Pooled) -> tuple[float, float]:
  low, high = np.percentile(row.blocks, [25, 75]).tolist()
  return low, high
