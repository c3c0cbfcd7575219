"""The figure of what is modelled of NVRAR and NCCL."""

from collectives import machines
from experiments.comparison import kilobytes
from experiments.multinode_inference import modelled_study
from experiments.multinode_inference.collectives_claims import BAND
from experiments.multinode_inference.modelled_claims import SPEED_UP
from research import runs
from research.runs import figures


def draw(
  settings: modelled_study.Modelled,
  found: modelled_study.Found,
  context: runs.Context,
) -> None:
  """Draws how many times faster NVRAR is, by size.

  Args:
    settings: what was modelled.
    found: what came out.
    context: where the figure goes.
  """
  with figures.style():
    fig, axes = figures.subplots(1, 2, height=3.4, sharey=True)
    for ax, name in zip(axes, modelled_study.NAMES, strict=True):
      profile = machines.load(name)
      for gpus in settings.gpus:
        ratios = [
          found.model(name, 1.0, gpus, size).ratio for size in settings.sizes
        ]
        nodes = profile.grid(gpus).nodes
        label = f"{nodes} x {gpus // nodes}"
        ax.semilogx(settings.sizes, ratios, ".-", label=label)
      ax.fill_between(BAND, *SPEED_UP, color=figures.INK, alpha=0.1, lw=0)
      ax.axhline(1, color=figures.INK, linewidth=1, linestyle=":")
      shown = settings.sizes[:: -(-len(settings.sizes) // 5)]
      ax.set_xticks(shown, [kilobytes(size) for size in shown])
      ax.minorticks_off()
      ax.set(title=profile.name, xlabel="bytes of a GPU")
      ax.legend(fontsize=7.5)
    axes[0].set_ylabel("NCCL / NVRAR, modelled")
    context.figure(
      fig,
      "modelled-speed-up",
      title="NVRAR against NCCL on GPUs, modelled",
      caption="Nodes x GPUs of each. NVRAR is simulated, by the better of its "
      "protocols; of NCCL the time that its own tuner predicts for the best of "
      "ring and tree. The grey field is what the paper's abstract reports.",
    )
