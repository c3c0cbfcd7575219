"""Builds the report that the browser tests look at: two papers, real figures.

The numbers are examples of what such a page holds, not results.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from research import runs
from research.runs import claims, figures, files, report
from research.telemetry import bench

MACHINE = {
  "Machine": "Intel Xeon Processor, 2 cores, 25 GB",
  "System": "Linux 6.18, Python 3.11.7",
  "Software": "jax 0.10.2, flax 0.12.8",
  "Commit": "3f2a9c1d40",
}

_SIFT_CLAIMS = (
  runs.Claim(
    id="power-law-mean",
    statement=(
      "Averaged over heads, the threshold that keeps the top eighth of the "
      "attention scores falls as a power of the generation step"
    ),
    paper_value="power law, no R² given",
    measured=0.9284713,
    interval=(0.912, 0.941),
    unit="R²",
    kind="measured",
    scope="paper",
    holds=True,
  ),
  runs.Claim(
    id="power-law-head",
    statement="The same law holds for each head on its own",
    paper_value="every head",
    measured=0.7134,
    interval=(0.34, 0.95),
    unit="median R²",
    kind="measured",
    scope="mechanism",
    holds=False,
    note="The fifth percentile of heads is 0.34: noisy, far from a law.",
  ),
  runs.Claim(
    id="bytes",
    statement="Skipping value rows saves reads of the key-value cache",
    paper_value=31.0,
    measured=27.4,
    unit="%",
    kind="modelled",
    scope="paper",
    holds=True,
  ),
  runs.Claim(
    id="decode",
    statement="Decoding at batch 1 reaches 60% of the memory-bandwidth limit",
    paper_value=None,
    measured=58.75,
    unit="% of limit",
    kind="measured",
    scope="beyond",
    holds=None,
    time_dependent=True,
    note="Contended: a neighbour used the machine, so it was not judged.",
  ),
)

_PLEXUS_CLAIMS = (
  runs.Claim(
    id="same-loss",
    statement="3D-parallel training follows the serial loss curve",
    paper_value="same accuracy",
    measured=3.1e-6,
    unit="largest difference",
    kind="measured",
    scope="mechanism",
    holds=True,
  ),
  runs.Claim(
    id="best-grid",
    statement="The cost model picks a grid within 10% of the best one",
    paper_value=None,
    measured=4.2,
    unit="% slower",
    kind="modelled",
    scope="beyond",
    holds=True,
  ),
)

_BENCH = (
  bench.BenchResult(
    name="dectet",
    unit="s/token",
    median=0.0231,
    p25=0.0228,
    p75=0.0239,
    rounds_kept=9,
    rounds_dropped=3,
    ratio_to={"transformers (torch)": 1.82, "llama.cpp F32": 0.61},
    limit=bench.Limit("weights over memory bandwidth", 0.0135),
    command="python -m experiments.tools.bench --filter=decode",
  ),
  bench.BenchResult(
    name="transformers (torch)",
    unit="s/token",
    median=0.042,
    p25=0.0412,
    p75=0.0451,
    rounds_kept=9,
    rounds_dropped=3,
    ratio_to={"dectet": 0.55, "llama.cpp F32": 0.33},
    command="python -m experiments.tools.bench --filter=decode",
  ),
  bench.BenchResult(
    name="llama.cpp F32",
    unit="s/token",
    median=None,
    p25=None,
    p75=None,
    rounds_kept=0,
    rounds_dropped=0,
    verdict="unavailable",
    meta={"reason": "no .venv-peers; run make peers"},
    command="python -m experiments.tools.bench --filter=decode",
  ),
)


def make(folder: pathlib.Path, *, complete: bool = True) -> pathlib.Path:
  """Writes a report with two papers done and others in every other state."""
  page = folder / "report.html"
  report.write(
    page,
    entries(folder, complete=complete),
    machine=MACHINE,
    written="22 November 2026, 20:41:07 UTC",
    complete=complete,
  )
  return page


def entries(folder: pathlib.Path, *, complete: bool) -> list[report.Entry]:
  sift, plexus, recorded = (folder / n for n in ("sift", "plexus", "full"))
  _store(sift, "sift_attention", _SIFT_CLAIMS, _BENCH)
  _store(plexus, "plexus", _PLEXUS_CLAIMS, ())
  _store(recorded, "sift_attention", _full_claims(), ())
  _draw_fit(sift / "figures" / "01-fit.svg")
  _draw_heads(sift / "figures" / "02-heads.svg")
  _draw_map(sift / "figures" / "03-map.svg")
  _draw_loss(plexus / "figures" / "01-loss.svg")
  return [
    _entry(
      "sift_attention",
      "SiftAttention",
      "2506.05300",
      "Threshold attention, guided by a power law over generation steps.",
      headline="power-law-mean",
      state="done",
      seconds=128.4,
      says=(
        "Quantiles of attention scores follow a power law over generation "
        "steps, consistently across models and datasets."
      ),
      command=(
        "python -m experiments.sift_attention.main "
        "--config=experiments/sift_attention/configs/laptop.py "
        "--workdir=out/sift"
      ),
      workdir=sift,
      recorded=recorded,
    ),
    _entry(
      "plexus",
      "Plexus",
      "2505.04083",
      "3D-parallel training of graph networks on the full graph.",
      headline="same-loss",
      state="done",
      seconds=41.2,
      says="Scales to 2048 GPUs at the same accuracy.",
      command="python -m experiments.plexus.main --workdir=out/plexus",
      workdir=plexus,
    ),
    _entry(
      "epicast",
      "EpiCast",
      "2506.07842",
      "An agent-based epidemic with coupled fear.",
      state="failed",
      seconds=3.4,
      detail="error: got no population file, expected one; run with --fetch",
    ),
    _entry(
      "pareval_repo",
      "ParEval-Repo",
      "2506.20938",
      "Translating whole repositories between execution models.",
      state="skipped" if complete else "running",
      seconds=None if complete else 12.0,
      detail="needs the program gfortran" if complete else "windows 3/20",
    ),
    _entry(
      "pccl",
      "PCCL: collectives that scale to thousands of GPUs",
      "2504.18658",
      "Hierarchical all-gather and reduce-scatter with learned dispatch.",
      state="planned",
    ),
  ]


def _entry(
  slug: str, title: str, arxiv: str, about: str, **options: Any
) -> report.Entry:
  options.setdefault("headline", "")
  return report.Entry(
    slug=slug, title=title, arxiv=arxiv, about=about, **options
  )


def _full_claims() -> tuple[runs.Claim, ...]:
  mean, head, *_ = _SIFT_CLAIMS
  wide = dataclasses.replace(mean, measured=0.9312, interval=(0.925, 0.937))
  many = dataclasses.replace(
    head, measured=0.7421, interval=(0.41, 0.96), holds=None
  )
  only = dataclasses.replace(
    mean,
    id="texts",
    statement="The exponent differs between texts by less than between layers",
    measured=0.31,
    interval=None,
    unit="ratio",
  )
  return wide, many, only


def _store(
  folder: pathlib.Path,
  slug: str,
  made: tuple[runs.Claim, ...],
  timings: tuple[bench.BenchResult, ...],
) -> None:
  result = runs.Result(
    paper=slug, config={"size": "laptop"}, claims=made, bench=timings
  )
  claims.save(result, folder / "result.json")
  run = {
    "commit": "3f2a9c1d40aa17",
    "dirty": True,
    "seed": 0,
    "started": "2026-11-22T20:36:00+00:00",
    "devices": ["1 × cpu"],
    "machine": {"cpu": "Intel Xeon Processor"},
    "earlier": [{"commit": "77d0e2f10b"}],
    "seconds": 5423.0,
  }
  files.write_json(folder / "run.json", run)


def _draw_fit(path: pathlib.Path) -> None:
  rng = np.random.default_rng(0)
  steps = np.geomspace(16, 2048, 48)
  with figures.style():
    fig, axes = figures.subplots()
    for i, share in enumerate((0.5, 0.75, 0.875, 0.9375)):
      law = (0.4 + i) * steps ** (-1.46 + 0.08 * i)
      seen = law * np.exp(rng.normal(0, 0.12, steps.size))
      axes.loglog(steps, seen, ".", color=f"C{i}", alpha=0.7)
      axes.loglog(steps, law, color=f"C{i}", label=rf"$\tau$ = {share}")
    axes.set(
      xlabel="Generation step $S$", ylabel=r"Threshold $\theta_{S,\tau}$"
    )
    axes.legend()
  figures.save(
    fig,
    path,
    title="Thresholds fall as a power of the step",
    caption=(
      "Dots: the threshold above which a share 1 − τ of the scores lies, "
      "averaged over heads. Lines: the fitted law αS^(−β). Straight on "
      "logarithmic axes means a power law."
    ),
  )


def _draw_heads(path: pathlib.Path) -> None:
  rng = np.random.default_rng(1)
  with figures.style():
    fig, axes = figures.subplots()
    axes.hist(rng.beta(5, 2, 270), bins=24, color="C0", label="each head")
    axes.axvline(0.928, color="C1", label="average over heads")
    axes.set(xlabel="$R^2$ of the fit", ylabel="Heads")
    axes.legend(loc="upper left")
  figures.save(
    fig,
    path,
    title="Single heads are far noisier than their average",
    caption="One R² for each of 270 heads, beside that of the average.",
  )


def _draw_map(path: pathlib.Path) -> None:
  rng = np.random.default_rng(2)
  with figures.style():
    fig, axes = figures.subplots()
    grid = rng.normal(1.35, 0.25, (9, 30))
    mesh = axes.pcolormesh(grid)
    fig.colorbar(mesh, ax=axes, label=r"Exponent $\beta$")
    axes.set(xlabel="Layer", ylabel="Head")
  figures.save(
    fig,
    path,
    title="The exponent by layer and head",
    caption="Bright heads forget quickly.",
  )


def _draw_loss(path: pathlib.Path) -> None:
  epochs = np.arange(60)
  with figures.style():
    fig, axes = figures.subplots()
    for i, name in enumerate(("1 device", "2 × 2 × 1", "2 × 2 × 2")):
      loss = 0.4 + 1.4 * np.exp(-epochs / 14) + 0.004 * i
      axes.plot(epochs, loss, color=f"C{i}", label=name)
    axes.set(xlabel="Epoch", ylabel="Training loss")
    axes.legend()
  figures.save(
    fig,
    path,
    title="The same loss on 1, 4 and 8 devices",
    caption="The three curves lie within rounding of one another.",
  )
