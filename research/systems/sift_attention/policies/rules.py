"""Policies without memory: each row is judged by itself."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from research.systems.sift_attention import quantiles
from research.systems.sift_attention.policies import base

_HALVINGS = 24  # narrows 20 nats to 1e-6


class Memoryless:
  """The empty state that the policies of this file share."""

  def init(self, batch: int, heads: int):
    """See `base.Policy`."""
    del batch, heads
    return ()

  def read_prompt(self, state, q, k, lengths, rows: int):
    """See `base.Policy`."""
    del q, k, lengths, rows
    return state

  def wants_scores(self, state) -> bool:
    """See `base.Policy`."""
    del state
    return False

  def update(self, state, row: base.Row, log_threshold, kept):
    """See `base.Policy`."""
    del row, log_threshold, kept
    return state


@dataclasses.dataclass(frozen=True)
class Dense(Memoryless):
  """Keeps everything: the twin that gains are measured against."""

  reads: base.Reads = dataclasses.field(default="step", init=False)

  def threshold(self, state, row: base.Row):
    """See `base.Policy`."""
    del state
    return jnp.full_like(row.log_max, -jnp.inf)


@dataclasses.dataclass(frozen=True)
class PositionOnly(Memoryless):
  """Keeps no row for its score: StreamingLLM with `selection.Always`.

  References:
    StreamingLLM, arXiv 2309.17453.
  """

  reads: base.Reads = dataclasses.field(default="step", init=False)

  def threshold(self, state, row: base.Row):
    """See `base.Policy`."""
    del state
    return jnp.full_like(row.log_max, jnp.inf)


@dataclasses.dataclass(frozen=True)
class RelativeToMax(Memoryless):
  r"""Keeps what is at least $\lambda / S$ of the row's largest score.

  $$\log\eta = \max_j \log a_j + \min(0, \log\lambda - \log S)$$

  One number for all heads: a head that concentrates keeps little, a flat head
  keeps much.

  Attributes:
    scale: $\lambda$, positive.

  References:
    BLASST, arXiv 2512.12087, whose rule is for blocks; here it is for rows.
  """

  scale: float = 4.0
  reads: base.Reads = dataclasses.field(default="maximum", init=False)

  def __post_init__(self):
    if not self.scale > 0:  # nan neither
      raise ValueError(f"scale must be positive, got {self.scale}")

  def threshold(self, state, row: base.Row):
    """See `base.Policy`."""
    del state
    share = math.log(self.scale) - jnp.log(row.lengths.astype("float32"))
    return row.log_max + jnp.minimum(share, 0)[:, None]


@dataclasses.dataclass(frozen=True)
class TopMass(Memoryless):
  r"""Keeps the fewest largest scores that hold a share of the mass (top-p).

  The threshold is found by bisection: dropping every $a_j < (1 - p) / S$ loses
  less than $1 - p$, so the answer lies between that and the maximum.

  Attributes:
    mass: $p$, in (0, 1).

  References:
    Twilight, arXiv 2502.02770.
  """

  mass: float = 0.95
  reads: base.Reads = dataclasses.field(default="scores", init=False)

  def __post_init__(self):
    if not 0 < self.mass < 1:
      raise ValueError(
        f"mass must lie between 0 and 1, got {self.mass}; Dense keeps all of it"
      )

  def threshold(self, state, row: base.Row):
    """See `base.Policy`."""
    del state
    scores, live = base.scores_of(self, row)
    probabilities = jnp.where(live, jnp.exp(scores), 0)
    spread = jnp.log(row.lengths.astype(scores.dtype))[:, None]
    low = jnp.minimum(math.log1p(-self.mass) - spread, row.log_max)

    def halve(_, ends):
      low, high = ends
      middle = 0.5 * (low + high)
      above = scores >= middle[..., None]
      enough = jnp.where(above, probabilities, 0).sum(-1) >= self.mass
      return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    # One score may hold the mass alone; bisection never tries its upper end.
    low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (low, row.log_max))
    alone = jnp.exp(row.log_max) >= self.mass
    return jnp.where(alone, row.log_max, low)


@dataclasses.dataclass(frozen=True)
class Quantile(Memoryless):
  r"""Keeps what reaches the row's own quantile: what the power law predicts.

  $\eta = \theta_{S,\tau}$ exactly, so that $S - \lceil\tau S\rceil + 1$ rows
  are kept: top-k of a share of the row.

  Attributes:
    level: $\tau$, in (0, 1].
  """

  level: float = 0.75
  reads: base.Reads = dataclasses.field(default="scores", init=False)

  def __post_init__(self):
    require_level(self.level)

  def threshold(self, state, row: base.Row):
    """See `base.Policy`."""
    del state
    scores, live = base.scores_of(self, row)
    above = quantiles.count_quantile(scores, live, self.level)
    # Counting ends just above the order statistic: step down onto it.
    reached = live & (scores <= above[..., None])
    return jnp.where(reached, scores, -jnp.inf).max(-1)


@dataclasses.dataclass(frozen=True)
class TopK(Memoryless):
  """Keeps the k largest scores, by the sort that sifting would avoid.

  Scores that tie with the k-th are kept too.

  Attributes:
    k: how many, at least 1; shorter rows are kept whole.
  """

  k: int
  reads: base.Reads = dataclasses.field(default="scores", init=False)

  def __post_init__(self):
    if self.k < 1:
      raise ValueError(f"k must be at least 1, got {self.k}")

  def threshold(self, state, row: base.Row):
    """See `base.Policy`."""
    del state
    scores, live = base.scores_of(self, row)
    scores = jnp.where(live, scores, -jnp.inf)
    return jax.lax.top_k(scores, min(self.k, scores.shape[-1]))[0][..., -1]


def require_level(level: float):
  """Checks a quantile level.

  Raises:
    ValueError: unless it lies in (0, 1].
  """
  if not 0 < level <= 1:
    raise ValueError(f"level must lie in (0, 1], got {level}")
