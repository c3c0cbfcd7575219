"""Figures of the power law."""

import numpy as np

from experiments.sift_attention import config as config_lib
from experiments.sift_attention.law_analysis import METHODS, Findings
from research import runs
from research.runs import figures
from research.systems.sift_attention import power_law


def draw(
  config: config_lib.Config, found: Findings, context: runs.Context
) -> None:
  """Draws and saves every figure.

  Args:
    config: the settings.
    found: the findings.
    context: where the figures go.
  """
  with figures.style():
    _law(config, found, context)
    _goodness(config, found, context)
    _exponents(config, found, context)
    _extrapolation(config, found, context)


def _law(config, found: Findings, context) -> None:
  fig, axes = figures.subplots(height=3.8)
  steps = found.steps[found.fitted]
  for index, level in enumerate(config.levels):
    theta = np.exp(found.mean_log_theta[:, index].mean(0))
    beta = found.average.beta[:, index].mean()
    label = f"τ = {level:g}: β = {beta:.2f}"
    (dots,) = axes.loglog(found.steps, theta, ".", label=label)
    alpha = found.average.log_alpha[:, index].mean()
    fitted = np.exp(alpha) * steps**-beta
    axes.loglog(steps, fitted, color=dots.get_color())
  level = np.exp(found.average_null.log_alpha.mean())
  axes.loglog(steps, level / steps, "--", color=figures.INK, label="slope −1")
  axes.set(xlabel="generation step S", ylabel="threshold θ (attention score)")
  axes.legend()
  context.figure(
    fig,
    "power-law",
    title="Attention-score quantiles against the generation step",
    caption="Each dot is the score that a share τ of the keys stays below at "
    "step S, averaged (geometric mean) over all heads, layers and windows. On "
    "these axes a power law is a straight line; the dashed line has the slope "
    "that scores of constant shape would give, because they sum to one.",
  )


def _goodness(config, found: Findings, context) -> None:
  fig, axes = figures.subplots(height=3.2)
  level = config.levels.index(config.headline_level)
  for label, law, style in (
    ("single heads", found.heads, "-"),
    ("single heads, β = 1", found.heads_null, "--"),
    ("a layer's average", found.layers, "-"),
    ("average of all heads", found.average, "-"),
  ):
    ordered = np.sort(law.r2[..., level], axis=None)
    share = np.arange(1, ordered.size + 1) / ordered.size
    axes.step(ordered, share, style, where="post", label=label)
  axes.set(
    xlim=(-0.02, 1.02),
    xlabel="R² of the power law",
    ylabel="share of fits below",
  )
  axes.legend()
  context.figure(
    fig,
    "goodness",
    title="How well the law fits: averages are flattering",
    caption=f"Cumulative distribution of R² at τ = {config.headline_level:g} "
    f"over steps {config.first_step} to {config.window_size}. The further "
    "right a curve stays near the bottom, the better the fits. Averaging over "
    "heads removes the noise of single heads, so its R² says little about any "
    "one of them.",
  )


def _exponents(config, found: Findings, context) -> None:
  fig, axes = figures.subplots(height=3.2)
  beta = found.layers.beta
  low, high = power_law.bootstrap_interval(beta, seed=config.seed)
  layers = np.arange(beta.shape[1])
  for index, level in enumerate(config.levels):
    (line,) = axes.plot(
      layers, beta[:, :, index].mean(0), label=f"τ = {level:g}"
    )
    axes.fill_between(
      layers,
      low[:, index],
      high[:, index],
      alpha=0.2,
      linewidth=0,
      color=line.get_color(),
    )
  axes.axhline(1, linestyle="--", color=figures.INK, linewidth=1)
  axes.set(xlabel="layer", ylabel="exponent β")
  axes.legend(ncols=2)
  context.figure(
    fig,
    "exponents",
    title="The exponent by layer",
    caption="Exponent of each layer's average over heads; bands are 95 % "
    "bootstrap intervals over windows. The dashed line is β = 1.",
  )


def _extrapolation(config, found: Findings, context) -> None:
  fig, axes = figures.subplots(height=3.2)
  styles = dict(zip(METHODS, ("o-", "s-", "^--"), strict=True))
  for name, style in styles.items():
    nine = [np.quantile(found.errors[name][w], 0.9) for w in config.warmups]
    axes.loglog(config.warmups, nine, style, label=name)
  axes.axhline(np.log(2), color=figures.INK, linewidth=1, linestyle=":")
  axes.set_xticks(config.warmups, [f"{w}" for w in config.warmups])
  axes.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
  axes.minorticks_off()
  axes.set(
    xlabel="warm-up length (steps)",
    ylabel="90th percentile of |log error| (nats)",
  )
  axes.legend()
  context.figure(
    fig,
    "extrapolation",
    title="Predicting thresholds from a warm-up",
    caption="Laws fitted on the warm-up of each head alone and compared with "
    f"the window's second half at τ = {config.headline_level:g}; lower is "
    f"better. The steps left out are those below {config.first_step}. The "
    "dotted line is an error of a factor of two.",
  )
