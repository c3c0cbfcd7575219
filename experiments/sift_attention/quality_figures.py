"""Figures of quality and traffic."""

import numpy as np

from experiments.sift_attention import config as config_lib
from experiments.sift_attention import quality_analysis as analysis
from experiments.sift_attention import roofline
from research import runs
from research.runs import figures

_MARKS = "osv^Dxp*"
_LIMIT = 3  # % of perplexity


def draw(
  config: config_lib.Config, found: analysis.Quality, context: runs.Context
) -> None:
  """Draws and saves every figure that the config measured enough for.

  Args:
    config: the settings.
    found: the findings.
    context: where the figures go.
  """
  with figures.style():
    _pareto(config, found, context)
    _heads(config.quality, found, context)
    _granularity(config.quality, found, context)
    if found.warmups or found.prompts:
      _ablations(config.quality, found, context)
    if found.retrieval:
      _retrieval(found, context)
    _roofline(config.quality, found, context)


def _percent(nats):
  """Nats a token above exact attention, as a rise of perplexity in %."""
  return 100 * np.expm1(nats)


def _pareto(config, found: analysis.Quality, context) -> None:
  fig, axes = figures.subplots(height=4.2)
  weights = analysis.draws(found.texts, config.seed)
  curves = analysis.curves(found.policies, weights)
  for i, (name, curve) in enumerate(curves.items()):
    low, high = np.quantile(curve.penalty[1:], [0.025, 0.975], axis=0)
    middle = _percent(curve.penalty[0])
    # A quantile of few windows may miss the mean: a bar never points inwards.
    below = np.maximum(middle - _percent(low), 0)
    above = np.maximum(_percent(high) - middle, 0)
    axes.errorbar(
      curve.rows[0],
      middle,
      yerr=[below, above],
      marker=_MARKS[i],
      linestyle="-" if i < len(figures.PALETTE) else "--",
      elinewidth=1,
      label=name.replace("_", " "),
    )
  axes.axhline(_LIMIT, color=figures.INK, linewidth=1, linestyle=":")
  axes.set(
    xlabel="value rows read, after the union over a group's heads",
    ylabel="perplexity above exact attention (%)",
  )
  axes.legend(ncols=2)
  context.figure(
    fig,
    "pareto",
    title="What each policy costs and saves",
    caption="Each line is a policy, each mark one of its settings: lower and "
    "further left is better. All layers are approximated; the first "
    f"{config.quality.exact_steps} steps of a window are exact under every "
    "policy and count for nothing. Bars are 95 % paired bootstrap intervals "
    f"over {len(found.texts)} windows, each text apart. Dotted: +3 %.",
  )


def _heads(settings, found: analysis.Quality, context) -> None:
  fig, axes = figures.subplots(height=3.2)
  shown = (settings.controlled_policy, settings.paper_policy)
  for name in shown:
    if name not in found.policies:
      continue
    target = settings.target(name)
    ordered = np.sort(found.policies[name].kept / target, axis=None)
    share = np.arange(1, ordered.size + 1) / ordered.size
    axes.step(ordered, share, where="post", label=name)
  axes.axvline(1, color=figures.INK, linewidth=1, linestyle=":")
  axes.set(
    xscale="log",
    xlabel="scores kept, in budgets of the head",
    ylabel="share of heads below",
  )
  _plain(axes, axes.xaxis)
  axes.legend()
  context.figure(
    fig,
    "budgets",
    title="Open and closed loop: does each head keep its budget?",
    caption="Cumulative distribution, over heads and windows, of the share of "
    "scores that a head keeps, divided by the share that it was meant to keep. "
    "A policy that holds its budget is a step at 1.",
  )


def _granularity(settings, found: analysis.Quality, context) -> None:
  fig, axes = figures.subplots(height=3.2)
  shown = {
    name: found.policies[name]
    for name in (
      settings.paper_policy,
      settings.best_policy,
      settings.controlled_policy,
    )
    if name in found.policies
  }
  for mark, (name, measured) in zip(_MARKS, shown.items(), strict=False):
    ticks = ["one head", *(f"group, {by}" for by in measured.rows)]
    values = [measured.kept.mean(), *(v.mean() for v in measured.rows.values())]
    axes.plot(ticks, values, marker=mark, label=name)
  axes.set(ylim=(0, 1.02), ylabel="share of value rows read")
  axes.legend()
  context.figure(
    fig,
    "granularity",
    title="From scores kept to rows read",
    caption="Left: what a single head keeps. Then what the heads of a group, "
    "which share their values, read together if single rows can be skipped, "
    "and if only whole blocks of 16, 64 or 128 rows can.",
  )


def _ablations(settings, found: analysis.Quality, context) -> None:
  panels = []
  if found.warmups:
    panels.append(("warm-up (steps)", {"": found.warmups}))
  if found.prompts:
    of = lambda kind: {p: m for (p, k), m in found.prompts.items() if k == kind}
    groups = {"rows after it": of("literal"), "rows of it": of("prompt")}
    panels.append(("prompt (tokens)", groups))
  fig, axes = figures.subplots(1, len(panels), height=3.2, squeeze=False)
  target = settings.target(settings.paper_policy)
  for (what, groups), panel in zip(panels, axes[0], strict=True):
    for index, (label, group) in enumerate(groups.items()):
      heads = [(m.kept / target).ravel() for m in group.values()]
      low, middle, high = np.quantile(np.array(heads), [0.05, 0.5, 0.95], 1)
      panel.errorbar(
        np.arange(len(group)) + 0.15 * index,
        middle,
        yerr=[middle - low, high - middle],
        fmt=_MARKS[index],
        capsize=3,
        label=label,
      )
      panel.set_xticks(range(len(group)), [f"{key}" for key in group])
    panel.axhline(1, color=figures.INK, linewidth=1, linestyle=":")
    panel.set(yscale="log", xlabel=what, ylabel="kept, in budgets of the head")
    _plain(panel, panel.yaxis)
    if len(groups) > 1:
      panel.legend()
  context.figure(
    fig,
    "ablations",
    title="Warm-up and prompt",
    caption=f"{settings.paper_policy}: what heads keep in units of their "
    "budget; marks are medians, bars hold 90 % of heads. By the length of the "
    "warm-up, all counted after the longest, and after a prompt, with the law "
    "fitted on the rows that follow it or on rows of it.",
  )


def _plain(axes, axis) -> None:
  """Numbers instead of powers on a logarithmic axis of budgets."""
  ticks = (0.125, 0.25, 0.5, 1, 2, 4, 8)
  axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
  axes.minorticks_off()


def _retrieval(found: analysis.Quality, context) -> None:
  fig, (left, right) = figures.subplots(1, 2, height=3.0)
  for mark, (name, group) in zip(_MARKS, found.retrieval.items(), strict=False):
    ticks = [f"{length}" for length in group]
    same, nll = zip(*group.values(), strict=True)
    left.plot(range(len(ticks)), same, f"{mark}-")
    right.plot(range(len(ticks)), nll, marker=mark, label=name)
    left.set_xticks(range(len(ticks)), ticks)
    right.set_xticks(range(len(ticks)), ticks)
  left.set(ylabel="answers as exact attention", xlabel="prompt (tokens)")
  right.set(ylabel="nats a token, right answer", xlabel="prompt (tokens)")
  right.legend()
  context.figure(
    fig,
    "retrieval",
    title="Synthetic retrieval",
    caption="Made-up pairs of names and codes, one asked for at the end. Left: "
    "answer tokens that are those of exact attention. Right: how surprising "
    "the right answer is. The model is small and weak at this.",
  )


def _roofline(settings, found: analysis.Quality, context) -> None:
  fig, axes = figures.subplots(height=3.4)
  share = np.linspace(0, 1, 101)
  shape = roofline.SHAPES[0]
  for gpu in roofline.GPUS:
    made = [roofline.model(shape, gpu, f) for f in share]
    (line,) = axes.plot(share, [1e6 * m.seconds for m in made], label=gpu.name)
    for name, mark in (
      (settings.paper_policy, "o"),
      (settings.best_policy, "s"),
    ):
      if name in found.policies:
        rows = float(found.policies[name].rows[1].mean())
        seconds = roofline.model(shape, gpu, rows).seconds
        axes.plot(rows, 1e6 * seconds, mark, color=line.get_color())
    dense, color = 1e6 * made[0].dense_seconds, line.get_color()
    axes.axhline(dense, color=color, linewidth=1, linestyle="--")
    least = dense / roofline.CEILING
    axes.axhline(least, color=color, linewidth=1, linestyle=":")
  axes.set(
    ylim=(0, None),
    xlabel="value rows read",
    ylabel="time of one layer's step (µs, modelled)",
  )
  axes.legend()
  context.figure(
    fig,
    "roofline",
    title="Time by memory traffic: a model",
    caption=f"Not measured. {made[-1].inputs.split(';')[0]}. Bytes of keys, of "
    "the value rows read and of scores written and read back, over the "
    "data-sheet bandwidth. Dashed: exact attention; dotted: half of it, which "
    "no policy that reads all keys can pass. Circle: "
    f"{settings.paper_policy}; square: {settings.best_policy}.",
  )
