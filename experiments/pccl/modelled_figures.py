"""Figures of what is modelled of Frontier."""

import numpy as np

from experiments.comparison import kilobytes
from experiments.pccl import modelled_config, modelled_training, step_traffic
from experiments.pccl.modelled_claims import ALL_GATHER, ratios
from experiments.pccl.modelled_study import (
  OURS,
  PCCL_RING,
  RCCL,
  SIDES,
  SYSTEMS,
  Found,
  System,
)
from research import runs
from research.runs import figures

_MODELLED = (
  "Modelled: simulated schedules, RCCL by its own tuner's constants, Cray "
  "MPICH as a ring through one card of four."
)


def draw(
  settings: modelled_config.Modelled, found: Found, context: runs.Context
) -> None:
  """Draws and saves every figure that the settings ask for.

  Args:
    settings: what was modelled.
    found: what came out.
    context: where the figures go.
  """
  with figures.style():
    _scaling(settings, found, context)
    _over_vendors(settings, found, context)
    if settings.map_ranks and settings.map_sizes:
      _map(settings, found, context)
    if found.traffic:
      _steps(settings, found, context)


def _scaling(
  settings: modelled_config.Modelled, found: Found, context: runs.Context
) -> None:
  size = settings.sizes[len(settings.sizes) // 2]
  fig, axes = figures.subplots(1, 2, height=3.4, sharey=True)
  for ax, side in zip(axes, SIDES, strict=True):
    for system in _systems(settings):
      times = [
        1e3 * found.clock(system, side, ranks, size) for ranks in settings.ranks
      ]
      ax.loglog(settings.ranks, times, ".-", label=system)
    _ranks_axis(ax, settings.ranks)
    ax.set(title=_dashed(side))
  axes[0].set_ylabel("milliseconds, modelled")
  axes[0].legend(fontsize=7.5)
  context.figure(
    fig,
    "modelled-scaling",
    title=f"Collectives of {kilobytes(size)} on Frontier, modelled",
    caption=f"{_MODELLED} Rings take as many steps as there are GCDs (RCCL, "
    "Cray MPICH) or nodes (PCCL's ring).",
  )


def _over_vendors(
  settings: modelled_config.Modelled, found: Found, context: runs.Context
) -> None:
  fig, axes = figures.subplots(1, 2, height=3.4, sharey=True)
  for ax, side in zip(axes, SIDES, strict=True):
    for rival, color in zip(ALL_GATHER, figures.PALETTE, strict=False):
      got = ratios(settings, found.clock, side, rival)
      ax.loglog(settings.sizes, got, ".-", color=color, label=rival)
      if side == "all_gather":
        low, high = ALL_GATHER[rival]
        ax.axhspan(low, high, color=color, alpha=0.12, lw=0)
    ax.axhline(1, color=figures.INK, linewidth=1, linestyle=":")
    shown = settings.sizes[:: -(-len(settings.sizes) // 4)]
    ax.set_xticks(shown, [kilobytes(size) for size in shown])
    ax.minorticks_off()
    ax.set(title=_dashed(side), xlabel="bytes of the whole buffer")
  axes[0].set_ylabel("times as long as PCCL, recursive")
  axes[0].legend()
  context.figure(
    fig,
    "modelled-over-vendors",
    title=f"PCCL against vendors on {settings.ranks[-1]} GCDs, modelled",
    caption=f"{_MODELLED} Bands are what the paper's abstract reports for the "
    "all-gather, without sizes.",
  )


def _map(
  settings: modelled_config.Modelled, found: Found, context: runs.Context
) -> None:
  fig, axes = figures.subplots(1, 2, height=3.6, sharey=True)
  ranks, sizes = settings.map_ranks, settings.map_sizes
  rings: tuple[System, ...] = (PCCL_RING, RCCL)
  for ax, ring in zip(axes, rings, strict=True):
    grid = np.log2(
      [[_ring_over(found, ring, r, s) for r in ranks] for s in sizes]
    )
    image = ax.imshow(
      np.clip(grid, -3, 3),
      origin="lower",
      aspect="auto",
      cmap="RdBu",
      vmin=-3,
      vmax=3,
    )
    ax.set_xticks(range(len(ranks)), [str(r) for r in ranks], rotation=60)
    ax.set_yticks(range(len(sizes)), [kilobytes(s) for s in sizes])
    ax.grid(visible=False)
    ax.set(title=f"{ring} / {OURS}", xlabel="GCDs")
  bar = fig.colorbar(image, ax=axes, shrink=0.8)
  bar.set_ticks(range(-3, 4), labels=[f"{2.0**n:g}" for n in range(-3, 4)])
  context.figure(
    fig,
    "modelled-ring-or-recursive",
    title="Ring or recursive all-gather on Frontier, modelled",
    caption=f"{_MODELLED} Time of the ring over that of PCCL's recursive form: "
    "blue where recursive is faster, red where the ring is; beyond 8 times in "
    "one colour.",
  )


def _ring_over(found: Found, ring: System, ranks: int, size: int) -> float:
  times = [
    found.clock(system, "all_gather", ranks, size) for system in (ring, OURS)
  ]
  return times[0] / times[1]


def _steps(
  settings: modelled_config.Modelled, found: Found, context: runs.Context
) -> None:
  fig, axes = figures.subplots(
    1, len(found.traffic), height=3.6, sharey=True, squeeze=False
  )
  for ax, (model, traffic) in zip(axes[0], found.traffic.items(), strict=True):
    for system in _systems(settings):
      lines = [
        [
          modelled_training.step(
            found.clock,
            *(system, model, traffic, ranks),
            modelled_training.Load(hidden=hidden),
          )
          for ranks in settings.ranks
        ]
        for hidden in (False, True)
      ]
      (line,) = ax.loglog(settings.ranks, lines[0], ".-", label=system)
      ax.fill_between(
        settings.ranks,
        lines[1],
        lines[0],
        alpha=0.12,
        color=line.get_color(),
        lw=0,
      )
    ideal = [
      modelled_training.computing(model, ranks, modelled_training.USUAL)
      for ranks in settings.ranks
    ]
    ax.loglog(settings.ranks, ideal, ":", color=figures.INK, label="computing")
    _ranks_axis(ax, settings.ranks)
    ax.set(title=f"GPT-3 {model.upper()}")
  axes[0, 0].set_ylabel("seconds a step, modelled")
  axes[0, 0].legend(fontsize=7.5)
  context.figure(
    fig,
    "modelled-zero3",
    title="Strong scaling of ZeRO-3 on Frontier, modelled",
    caption="A step of 2^22 tokens in bfloat16: computing at 38.4 % of the "
    "peak, collectives one after another. Lines hide nothing behind "
    "computing, bands reach down to everything hidden.",
  )


def _systems(settings: modelled_config.Modelled) -> list[System]:
  return [one for one in SYSTEMS if settings.ring or one != PCCL_RING]


def _ranks_axis(ax, ranks: tuple[int, ...]) -> None:
  ax.set_xscale("log", base=2)
  ax.set_xticks(ranks, [str(r) for r in ranks])
  ax.set_xlabel("GCDs")


def _dashed(side: step_traffic.Side) -> str:
  return side.replace("_", "-")
