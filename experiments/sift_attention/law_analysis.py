"""From measured quantiles to numbers that claims and figures share."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from experiments.sift_attention import config as config_lib
from research.systems.sift_attention import power_law


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
  """What the study found; leading axes are window, then layer, then head.

  Attributes:
    steps: measured generation steps.
    fitted: which of them fits are judged on.
    mean_log_theta: log-quantiles averaged over layers and heads,
      `[window, level, row]`.
    average: fits of `mean_log_theta`, `[window, level]`.
    average_null: the same with beta held at 1.
    layers: fits of each layer's average over heads, `[window, layer, level]`.
    heads: fits of single heads, `[window, layer, head, level]`.
    heads_null: the same with beta held at 1.
    texts: each window's text.
    errors: absolute error of extrapolated log-thresholds at the headline level
      over the second half of the windows, in nats, by method and warm-up.
    check_beta: absolute difference in beta between log-spaced and all steps,
      `[layer, head, level]`.
  """

  steps: np.ndarray
  fitted: np.ndarray
  mean_log_theta: np.ndarray
  average: power_law.Fit
  average_null: power_law.Fit
  layers: power_law.Fit
  heads: power_law.Fit
  heads_null: power_law.Fit
  texts: list[str]
  errors: dict[str, dict[int, np.ndarray]]
  check_beta: np.ndarray


def analyse(
  config: config_lib.Config,
  *,
  steps: Int[np.ndarray, " rows"],
  log_theta: Float[np.ndarray, "window layer head level rows"],
  texts: list[str],
  check: Float[np.ndarray, "layer head level all"],
) -> Findings:
  """Fits every average and every head.

  Args:
    config: the settings.
    steps: measured generation steps.
    log_theta: log-quantiles at those steps.
    texts: each window's text.
    check: log-quantiles of the first window at every step.

  Returns:
    The findings.
  """
  log_theta = log_theta.astype(np.float64)
  fitted = steps >= config.first_step
  x, y = steps[fitted], log_theta[..., fitted]
  mean = log_theta.mean((1, 2))
  every = np.arange(1, check.shape[-1] + 1)
  late = every >= config.first_step
  heads = power_law.fit(y, x)
  dense = power_law.fit(check[..., late].astype(np.float64), every[late])
  return Findings(
    steps=steps,
    fitted=fitted,
    mean_log_theta=mean,
    average=power_law.fit(mean[..., fitted], x),
    average_null=power_law.fit_null(mean[..., fitted], x),
    layers=power_law.fit(y.mean(2), x),
    heads=heads,
    heads_null=power_law.fit_null(y, x),
    texts=texts,
    errors=_extrapolate(config, steps, log_theta),
    check_beta=np.abs(heads.beta[0] - dense.beta),
  )


METHODS = ("power law", "power law, first steps left out", "β = 1")


def _extrapolate(
  config: config_lib.Config, steps: np.ndarray, log_theta: np.ndarray
) -> dict[str, dict[int, np.ndarray]]:
  """Fits warm-ups and compares predictions with the windows' second halves."""
  level = config.levels.index(config.headline_level)
  values = log_theta[:, :, :, level]
  held_out = steps > config.window_size // 2
  truth = values[..., held_out]
  errors: dict[str, dict[int, np.ndarray]] = {name: {} for name in METHODS}
  for warmup in config.warmups:
    first = config.first_step if warmup > config.first_step else 1
    for name, fit, start in zip(
      METHODS,
      (power_law.fit, power_law.fit, power_law.fit_null),
      (1, first, 1),
      strict=True,
    ):
      rows = (steps >= start) & (steps <= warmup)
      law = fit(values[..., rows], steps[rows])
      errors[name][warmup] = np.abs(law.predict(steps[held_out]) - truth)
  return errors
