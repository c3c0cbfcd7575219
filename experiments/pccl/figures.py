"""Figures of collectives and of training steps on emulated links."""

import numpy as np

from experiments.comparison import kilobytes
from experiments.pccl import config as config_lib
from experiments.pccl.analysis import OURS, Findings, Swept, two_level
from experiments.pccl.claims import LATENCY_RULES, slug
from research import runs
from research.runs import figures

_SIDES = ("all_gather", "reduce_scatter")
_STYLES = ("-", "--", ":")
_PAIRS = (("recursive", "ring"), (OURS, "pccl_ring"))


def draw(
  config: config_lib.Config, found: Findings, context: runs.Context
) -> None:
  """Draws and saves every figure; without links only that of bytes.

  Args:
    config: the settings.
    found: the findings.
    context: where the figures go.
  """
  with figures.style():
    if not found.reason:
      for network in dict.fromkeys(one.network for one in config.sweeps):
        own = [one for one in found.swept if one.sweep.network == network]
        sides = [one for one in own if one.sweep.collective in _SIDES]
        for swept in (sides, [one for one in own if one not in sides]):
          if swept:
            _latency(swept, context)
      _over_rivals(found, context)
      _crossover(found, context)
    if not found.steps_reason:
      _steps(found, context)
    _bytes(found, context)


def _latency(swept: list[Swept], context: runs.Context) -> None:
  fig, axes = figures.subplots(
    1, len(swept), height=3.9, sharey=True, squeeze=False
  )
  for ax, one in zip(axes[0], swept, strict=True):
    for name in one.cells.algorithms:
      rows = [one.cells.cells[name, size] for size in one.cells.sizes]
      median = np.array([row.median_us for row in rows]) / 1e3
      least = np.array([row.min_us for row in rows]) / 1e3
      style = ".-" if two_level(name) else ".--"
      (line,) = ax.loglog(one.cells.sizes, median, style, label=name)
      ax.fill_between(
        one.cells.sizes, least, median, alpha=0.15, color=line.get_color()
      )
    ax.set(title=_title(one), xlabel="bytes M (above: M β / α)")
    _size_ticks(ax, one)
  axes[0, 0].set_ylabel("milliseconds")
  _legend(fig, axes[0], columns=4)
  names = "" if len(swept) > 1 else f"{swept[0].sweep.collective}-"
  context.figure(
    fig,
    f"latency-{names.replace('_', '-')}{slug(swept[0].sweep)}",
    title=f"Collectives on emulated links, {swept[0].sweep.network}",
    caption="Lines are medians, bands reach down to the fastest call; in each "
    "call the slowest process counts. Dashed: algorithms that know nothing of "
    "nodes. M is the gathered buffer, or the one to be scattered. The upper "
    "axis is the size in units of the bytes that one latency is worth.",
  )


def _over_rivals(found: Findings, context: runs.Context) -> None:
  fig, axes = figures.subplots(1, 2, height=3.6, sharey=True)
  for ax, collective in zip(axes, _SIDES, strict=True):
    swept = [one for one in found.swept if one.sweep.collective == collective]
    for one, style in zip(swept, _STYLES, strict=False):
      if OURS in one.cells.algorithms:
        _rivals(ax, one, style)
    ax.axhline(1, color=figures.INK, linewidth=1, linestyle=":")
    ax.axvline(LATENCY_RULES, color=figures.INK, linewidth=1, linestyle=":")
    ax.set(title=collective.replace("_", "-"), xlabel="M β / α")
  axes[0].set_ylabel("times as long as PCCL, recursive")
  _legend(fig, axes, columns=3)
  context.figure(
    fig,
    "speed-up",
    title="PCCL's recursive collectives against flat ones",
    caption="Ratio of medians against the flat ring and against the best of "
    "all flat algorithms, XLA's own among them; bands are 95 % bootstrap "
    "intervals over blocks of calls. Left of the dotted line latency rules: "
    "the bytes take no longer than one step without any.",
  )


def _rivals(ax, one: Swept, style: str) -> None:
  scaled = [one.sweep.scaled(size) for size in one.cells.sizes]
  named = {"ring": ["ring"], "best flat": one.flat()}
  for color, (label, names) in zip(
    figures.PALETTE, named.items(), strict=False
  ):
    if not set(names) <= set(one.cells.algorithms):
      continue
    ratios = [
      one.cells.ratio(one.cells.best(names, size), OURS, size)
      for size in one.cells.sizes
    ]
    ax.semilogx(
      scaled,
      [ratio.median for ratio in ratios],
      style,
      color=color,
      label=f"{label}, {slug(one.sweep)}",
    )
    ax.fill_between(
      scaled,
      [ratio.low for ratio in ratios],
      [ratio.high for ratio in ratios],
      alpha=0.15,
      color=color,
    )


def _crossover(found: Findings, context: runs.Context) -> None:
  fig, axes = figures.subplots(1, 2, height=3.4, sharey=True)
  for ax, collective in zip(axes, _SIDES, strict=True):
    swept = [one for one in found.swept if one.sweep.collective == collective]
    for one, style in zip(swept, _STYLES, strict=False):
      for color, (recursive, ring) in zip(
        figures.PALETTE, _PAIRS, strict=False
      ):
        if {recursive, ring} <= set(one.cells.algorithms):
          ratios = [
            one.cells.ratio(ring, recursive, s) for s in one.cells.sizes
          ]
          ax.semilogx(
            [one.sweep.scaled(size) for size in one.cells.sizes],
            [ratio.median for ratio in ratios],
            style,
            color=color,
            marker=".",
            label=f"{ring} / {recursive}, {slug(one.sweep)}",
          )
    ax.axhline(1, color=figures.INK, linewidth=1, linestyle=":")
    ax.set(title=collective.replace("_", "-"), xlabel="M β / α")
  axes[0].set_ylabel("ring / recursive, medians")
  _legend(fig, axes, columns=2)
  context.figure(
    fig,
    "ring-or-recursive",
    title="Ring or recursive",
    caption="Time of the ring over that of the recursive form, flat and with "
    "two levels. Above the dotted line the recursive form is faster: it has "
    "fewer steps. Flat, it sends more out of each node, so that the ring wins "
    "when bytes cost more than steps; with two levels both send the same.",
  )


def _steps(found: Findings, context: runs.Context) -> None:
  [size] = found.steps.sizes
  names = found.steps.algorithms[::-1]
  fig, ax = figures.subplots(height=1.2 + 0.28 * len(names))
  rows = [found.steps.cells[name, size] for name in names]
  median = np.array([row.median_us for row in rows]) / 1e3
  least = np.array([row.min_us for row in rows]) / 1e3
  ax.barh(range(len(names)), median, height=0.7, color=_colors(names))
  ax.plot(least, range(len(names)), "|", color=figures.INK, markersize=9)
  ax.set_yticks(range(len(names)), names)
  ax.set(xlabel="milliseconds a step")
  context.figure(
    fig,
    "steps",
    title=f"Training steps by algorithm, {found.steps.name}",
    caption=f"A decoder with {kilobytes(size)} bytes of float32 parameters, "
    "one row of tokens a rank; cases take turns step by step. Bars are medians "
    "of the slowest process, marks the fastest step. In the first colour "
    "algorithms that know nothing of nodes.",
  )


def _bytes(found: Findings, context: runs.Context) -> None:
  names = list(found.cases)[::-1]
  titles = [name.replace(":", " ") for name in names]
  fig, axes = figures.subplots(
    1, 2, height=1.2 + 0.28 * len(names), sharey=True
  )
  for ax, field, label in (
    (axes[0], "rank_bytes", "MB that a rank sends, mean"),
    (axes[1], "port_bytes", "MB that leave the busiest node"),
  ):
    values = [getattr(found.cases[name][0], field) / 1e6 for name in names]
    ax.barh(range(len(names)), values, height=0.7, color=_colors(titles))
    ax.set(xlabel=label)
  axes[0].set_yticks(range(len(names)), titles)
  context.figure(
    fig,
    "bytes",
    title="Bytes of a training step, as compiled",
    caption="Counted in the compiled program; collectives of the vendor as "
    "gloo, XLA's transport on CPUs, runs them.",
  )


def _colors(cases: list[str]) -> list[str]:
  return [figures.PALETTE[two_level(case.split()[1])] for case in cases]


def _legend(fig, axes, columns: int) -> None:
  """One legend for all panels, below them."""
  lines = {
    label: line
    for ax in axes
    for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
  }
  if lines:
    fig.legend(
      lines.values(),
      lines,
      loc="outside lower center",
      ncols=columns,
      fontsize=7.5,
    )


def _title(one: Swept) -> str:
  return one.sweep.collective.replace("_", "-")


def _size_ticks(ax, one: Swept) -> None:
  sizes = one.cells.sizes
  shown = sizes[:: -(-len(sizes) // 6)]
  ax.set_xticks(shown, [kilobytes(size) for size in shown])
  ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
  unit = one.sweep.scaled(1)
  top = ax.secondary_xaxis(
    "top", functions=(lambda size: size * unit, lambda scaled: scaled / unit)
  )
  top.tick_params(labelsize=7.5)
