"""Fitting and judging the power law of attention-score quantiles."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class Fit:
  r"""A power law $\theta_S = \alpha S^{-\beta}$, one for each leading index.

  Attributes:
    log_alpha: $\log \alpha$.
    beta: $\beta$.
    r2: share of the variance of $\log \theta$ that the law explains; 0 where
      there is no variance to explain.
  """

  log_alpha: np.ndarray
  beta: np.ndarray
  r2: np.ndarray

  def predict(self, steps: Int[np.ndarray, " rows"]) -> np.ndarray:
    """Returns the threshold's logarithm at each step, on a new last axis."""
    return self.log_alpha[..., None] - self.beta[..., None] * np.log(steps)


def fit(
  log_theta: Float[np.ndarray, "*heads rows"], steps: Int[np.ndarray, " rows"]
) -> Fit:
  r"""Ordinary least squares of $\log\theta$ on $\log S$, in closed form.

  With $x = \log S$, $y = \log\theta$ and $n$ rows,
  $$\beta = -\frac{n\sum xy - \sum x \sum y}{n\sum x^2 - (\sum x)^2}, \quad
    \log\alpha = \frac{\sum y + \beta \sum x}{n}$$

  computed about the means, where nothing cancels.

  Args:
    log_theta: logarithms of quantiles.
    steps: generation steps $S$ from 1; at least two distinct ones.

  Returns:
    The fit of each leading index, in float64.

  Raises:
    ValueError: if fewer than two distinct steps are given.

  Example:
    >>> steps = np.arange(1, 17)
    >>> law = fit(np.log(0.5) - 1.25 * np.log(steps), steps)
    >>> round(float(law.beta), 6), round(float(np.exp(law.log_alpha)), 6)
    (1.25, 0.5)

  References:
    SiftAttention, arXiv 2506.05300, Algorithm 1.
  """
  if len(np.unique(steps)) < 2:
    raise ValueError(
      "a power law needs at least 2 distinct steps, got "
      f"{len(np.unique(steps))}"
    )
  x = np.log(steps.astype(np.float64))
  y = log_theta.astype(np.float64)
  x_mean, y_mean = x.mean(), y.mean(-1)
  dx, dy = x - x_mean, y - y.mean(-1, keepdims=True)
  beta = -(dy @ dx) / (dx @ dx)
  return _judged(y_mean + beta * x_mean, beta, x, y)


def fit_null(
  log_theta: Float[np.ndarray, "*heads rows"], steps: Int[np.ndarray, " rows"]
) -> Fit:
  r"""The law with $\beta$ held at 1: only its level is fitted.

  Scores sum to 1, so $\theta_S \propto 1/S$ for any head whose scores keep
  their shape. A power law says something only where it beats this one.

  Args:
    log_theta: logarithms of quantiles.
    steps: generation steps $S$ from 1.

  Returns:
    The fit of each leading index, in float64.
  """
  x, y = np.log(steps.astype(np.float64)), log_theta.astype(np.float64)
  level = (y + x).mean(-1)
  return _judged(level, np.ones_like(level), x, y)


def _judged(log_alpha, beta, x: np.ndarray, y: np.ndarray) -> Fit:
  """Adds the share of variance that a law explains."""
  log_alpha, beta = np.asarray(log_alpha), np.asarray(beta)
  rest = ((y - log_alpha[..., None] + beta[..., None] * x) ** 2).sum(-1)
  spread = ((y - y.mean(-1, keepdims=True)) ** 2).sum(-1)
  unexplained = np.ones_like(rest)
  np.divide(rest, spread, out=unexplained, where=spread > 1e-20)
  return Fit(log_alpha, beta, np.asarray(1 - unexplained))


def log_spaced_steps(
  first: int, last: int, count: int
) -> Int[np.ndarray, " rows"]:
  """Returns at most `count` distinct steps, evenly spaced in logarithm.

  Args:
    first: smallest step.
    last: largest step.
    count: how many at most; small steps coincide after rounding.

  Example:
    >>> log_spaced_steps(1, 16, 5).tolist()
    [1, 2, 4, 8, 16]
  """
  return np.unique(np.geomspace(first, last, count).round().astype(np.int64))


def bootstrap_interval(
  samples: Float[np.ndarray, "units *rest"],
  *,
  seed: int,
  draws: int = 2000,
  coverage: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
  """Percentile bootstrap interval of the mean over independent units.

  Args:
    samples: one entry a unit, e.g. a window of text.
    seed: of the draws.
    draws: resamples.
    coverage: share of them that the interval holds.

  Returns:
    Lower and upper end, of the shape of one entry.

  References:
    Efron and Tibshirani, An Introduction to the Bootstrap, section 13.3.
  """
  generator = np.random.default_rng(seed)
  picks = generator.integers(0, len(samples), (draws, len(samples)))
  weights = np.zeros((draws, len(samples)))
  np.add.at(weights, (np.arange(draws)[:, None], picks), 1 / len(samples))
  means = np.tensordot(weights, samples, axes=1)
  tail = (1 - coverage) / 2
  low, high = np.quantile(means, [tail, 1 - tail], axis=0)
  return low, high
