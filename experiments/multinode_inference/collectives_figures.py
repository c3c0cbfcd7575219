"""Figures of all-reduces on emulated links, and of how they round."""

import numpy as np

from collectives import algorithms
from experiments.comparison import Network, kilobytes
from experiments.multinode_inference import config as config_lib
from experiments.multinode_inference.accuracy import (
  BFLOAT16,
  FLOAT32,
  Rounding,
)
from experiments.multinode_inference.collectives_analysis import (
  Findings,
)
from experiments.multinode_inference.collectives_claims import MODEL_ERROR
from research import runs
from research.runs import figures

_STYLES = ("o-", "s--", "^:")


def draw(
  config: config_lib.Config, found: Findings, context: runs.Context
) -> None:
  """Draws and saves every figure; without links only that of rounding.

  Args:
    config: the settings.
    found: the findings.
    context: where the figures go.
  """
  with figures.style():
    for links in (config.headline, config.fast):
      if links.network in found.networks:
        network = found.networks[links.network]
        _latency(links, network, context)
        _speed_up(links, network, context)
        _winners(network, context)
    if found.networks:
      _scaled(config, found, context)
      _model(found, context)
    _rounding(config.accuracy, found.rounding, context)


def _latency(
  links: config_lib.Links, network: Network, context: runs.Context
) -> None:
  fig, axes = figures.subplots(1, 2, height=4.2, sharey=True)
  panels = {"flat": [], "hierarchical": []}
  for name in network.algorithms:
    panels["hierarchical" if _hierarchical(name) else "flat"].append(name)
  for ax, (title, names) in zip(axes, panels.items(), strict=True):
    for name in names:
      rows = [network.cells[name, size] for size in network.sizes]
      median = np.array([row.median_us for row in rows]) / 1e3
      least = np.array([row.min_us for row in rows]) / 1e3
      (line,) = ax.loglog(network.sizes, median, ".-", label=name)
      ax.fill_between(
        network.sizes, least, median, alpha=0.15, color=line.get_color()
      )
    if title == "hierarchical":
      for peer, style in zip(network.peers, (":", "-."), strict=False):
        ax.loglog(
          network.sizes,
          [_best_ms(network, network.of_peer(peer), s) for s in network.sizes],
          style,
          color=figures.INK,
          label=f"{peer}, best",
        )
    ax.set(title=title, xlabel="bytes of a rank (above: M β / α)")
    _size_ticks(ax, network.sizes)
    _scaled_axis(ax, links)
    ax.legend(fontsize=7.5)
  axes[0].set_ylabel("milliseconds")
  context.figure(
    fig,
    f"latency-{_slug(network)}",
    title=f"All-reduce on emulated links, {network.name}",
    caption="Lines are medians, bands reach down to the fastest call; in each "
    "call the slowest process counts. Processes of a node talk by TCP, too, "
    "except Open MPI's, which share memory. The upper axis is the size in "
    "units of the bytes that one latency is worth.",
  )


def _speed_up(
  links: config_lib.Links, network: Network, context: runs.Context
) -> None:
  rivals = [n for n in ("xla", "ring", "double_tree") if n in network.ours()]
  others = network.ours("nvrar")
  if "nvrar" not in network.algorithms or not others:
    return
  named = {name: [name] for name in rivals}
  named["best of all others here"] = others
  named |= {f"{p}, best": network.of_peer(p) for p in network.peers}
  fig, axes = figures.subplots(height=3.6)
  for index, (label, names) in enumerate(named.items()):
    ratios = [
      network.ratio(network.best(names, size), "nvrar", size)
      for size in network.sizes
    ]
    (line,) = axes.semilogx(
      network.sizes,
      [ratio.median for ratio in ratios],
      _STYLES[index // 3],
      label=label,
    )
    axes.fill_between(
      network.sizes,
      [ratio.low for ratio in ratios],
      [ratio.high for ratio in ratios],
      alpha=0.15,
      color=line.get_color(),
    )
  axes.axhline(1, color=figures.INK, linewidth=1, linestyle=":")
  _size_ticks(axes, network.sizes)
  _scaled_axis(axes, links)
  axes.set(
    ylim=(0, None),
    xlabel="bytes of a rank (above: M β / α)",
    ylabel="times as long as NVRAR",
  )
  axes.legend()
  context.figure(
    fig,
    f"speed-up-{_slug(network)}",
    title=f"How many times faster NVRAR is, {network.name}",
    caption="Ratio of medians; bands are 95 % bootstrap intervals over blocks "
    "of calls. Below the dotted line NVRAR is the slower one.",
  )


def _winners(network: Network, context: runs.Context) -> None:
  wins = [network.wins(size) for size in network.sizes]
  names = [n for n in network.algorithms if any(w[n] > 0.005 for w in wins)]
  fig, axes = figures.subplots(height=2.8)
  bottom = np.zeros(len(wins))
  for name in names:
    shares = np.array([win[name] for win in wins])
    axes.bar(
      range(len(wins)),
      shares,
      bottom=bottom,
      label=name,
      width=0.7,
      hatch="//" if _hierarchical(name) else None,
    )
    bottom += shares
  axes.set_xticks(range(len(wins)), [kilobytes(s) for s in network.sizes])
  axes.set(xlabel="bytes of a rank", ylabel="share of draws won", ylim=(0, 1))
  axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
  context.figure(
    fig,
    f"winners-{_slug(network)}",
    title=f"Which all-reduce is the fastest, {network.name}",
    caption="Share of bootstrap draws (blocks of calls) in which an algorithm "
    "has the lowest median of all algorithms here; hierarchical ones are "
    "hatched. One colour: no doubt.",
  )


def _scaled(
  config: config_lib.Config, found: Findings, context: runs.Context
) -> None:
  fig, axes = figures.subplots(height=3.4)
  for index, links in enumerate(config.links):
    network = found.networks[links.network]
    flat = [n for n in network.algorithms if not _hierarchical(n)]
    two_level = [n for n in network.algorithms if _hierarchical(n)]
    if not flat or not two_level:
      continue
    ratios = [
      _best_ms(network, flat, size) / _best_ms(network, two_level, size)
      for size in network.sizes
    ]
    scaled = [links.scaled(size) for size in network.sizes]
    axes.semilogx(scaled, ratios, _STYLES[index % 3], label=network.name)
  axes.axhline(1, color=figures.INK, linewidth=1, linestyle=":")
  axes.set(xlabel="M β / α", ylabel="best flat / best hierarchical")
  axes.legend()
  context.figure(
    fig,
    "hierarchy-pays",
    title="When hierarchy pays",
    caption="Time of the best flat all-reduce over that of the best "
    "hierarchical one, medians, by the size in units of the bytes that one "
    "latency is worth. Above the dotted line hierarchy is faster.",
  )


def _model(found: Findings, context: runs.Context) -> None:
  fig, axes = figures.subplots(height=3.8)
  groups = found.predictions["median_us"]
  for (group, cells), marker in zip(groups.items(), "o^s", strict=True):
    if cells:
      measured = np.array([cell.measured for cell in cells]) * 1e3
      predicted = np.array([cell.predicted for cell in cells]) * 1e3
      axes.loglog(
        measured, predicted / measured, marker, label=f"{group} held out"
      )
  axes.axhspan(
    1 - MODEL_ERROR, 1 + MODEL_ERROR, color=figures.INK, alpha=0.08, lw=0
  )
  axes.set_yscale("linear")
  axes.set(xlabel="measured (ms)", ylabel="predicted / measured")
  axes.legend()
  context.figure(
    fig,
    "model",
    title="A model of latencies and bytes against cells that it has not seen",
    caption="Each mark is the median time of an algorithm at a size. The band "
    f"is an error of {100 * MODEL_ERROR:.0f} %. The model has one latency and "
    "one time a byte for each level, a time a byte reduced and one a call.",
  )


def _rounding(
  settings: config_lib.Accuracy, rounding: Rounding, context: runs.Context
) -> None:
  fig, axes = figures.subplots(height=3.8)
  for name in algorithms.names("all_reduce"):
    errors = [rounding[name, BFLOAT16, p] for p in settings.ranks]
    style = ".--" if _hierarchical(name) else ".-"
    axes.loglog(settings.ranks, np.mean(errors, axis=1), style, label=name)
  wide = [
    np.mean(
      [rounding[name, FLOAT32, p] for name in algorithms.names("all_reduce")]
    )
    for p in settings.ranks
  ]
  axes.loglog(
    settings.ranks, wide, ":", color=figures.INK, label="all, float32 sums"
  )
  axes.set_xscale("log", base=2)
  axes.set_xticks(settings.ranks, [str(p) for p in settings.ranks])
  axes.set(xlabel="ranks", ylabel="relative error of the sum")
  axes.legend(fontsize=7.5, ncols=2)
  context.figure(
    fig,
    "rounding",
    title="How all-reduces round in bfloat16",
    caption="Root mean square error of sums of normal numbers against float64, "
    "over the sum's own. Every step rounds: a ring has as many as ranks, a "
    "tree the logarithm of that. Computed by numpy from the schedules.",
  )


def _hierarchical(name: str) -> bool:
  return name != "xla" and algorithms.ALGORITHMS[name].hierarchical


def _best_ms(network: Network, names: list[str], size: int) -> float:
  best = network.best(names, size)
  return network.cells[best, size].median_us / 1e3


def _size_ticks(axes, sizes: list[int]) -> None:
  shown = sizes[:: -(-len(sizes) // 6)]
  axes.set_xticks(shown, [kilobytes(size) for size in shown])
  axes.minorticks_off()


def _scaled_axis(axes, links: config_lib.Links) -> None:
  unit = links.scaled(1)
  top = axes.secondary_xaxis(
    "top", functions=(lambda size: size * unit, lambda scaled: scaled / unit)
  )
  top.tick_params(labelsize=7.5)


def _slug(network: Network) -> str:
  return "-".join(part.split("=")[-1] for part in network.name.split(","))
