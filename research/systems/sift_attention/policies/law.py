"""The paper's policy: thresholds from a power law fitted while decoding."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from research.systems.sift_attention import quantiles
from research.systems.sift_attention.policies import base, rules, running_fit

_FIRST_STEP = 16  # of a prompt that is learnt from


class LawState(NamedTuple):
  """What a power law has seen.

  Attributes:
    seen: rows of the warm-up so far, `[b, h]`.
    moments: of $(\\log S, \\log\\theta_S)$ over those that count.
  """

  seen: jax.Array
  moments: running_fit.Moments


@dataclasses.dataclass(frozen=True)
class PowerLaw:
  r"""Predicts $\log\eta_S = \log\alpha - \beta\log S$ for each head.

  The first `warmup` rows are attended exactly while the quantiles
  $\theta_{S,\tau}$ of their scores are recorded; then the law is fitted once,
  in closed form, and only compared with. A row without scores teaches nothing.

  The paper's own $\tau$ and warm-up are unknown. A fit on the rows after a long
  prompt is useless, since $\log S$ hardly moves there: `read_prompt` takes
  log-spaced rows of the prompt instead; or bound the exponent.

  Attributes:
    level: $\tau$, in (0, 1].
    warmup: rows of the warm-up, at least 1.
    skip: of these, how many first ones are left out of the fit.
    least_beta: smallest exponent; the paper sets no bound.
    most_beta: largest exponent.
    floor: smallest $\log\theta$ recorded, in nats: the tail of a peaked head
      would otherwise lever the line.

  References:
    SiftAttention, arXiv 2506.05300, Algorithms 1 and 2.
  """

  level: float = 0.75
  warmup: int = 64
  skip: int = 0
  least_beta: float = -math.inf
  most_beta: float = math.inf
  floor: float = -60.0
  reads: base.Reads = dataclasses.field(default="step", init=False)

  def __post_init__(self):
    rules.require_level(self.level)
    if not 0 <= self.skip < self.warmup:
      raise ValueError(
        f"skip must be less than warmup, got {self.skip} of {self.warmup} rows"
      )
    if self.least_beta > self.most_beta:
      raise ValueError(
        f"least_beta must not exceed most_beta, got {self.least_beta} > "
        f"{self.most_beta}"
      )

  def init(self, batch: int, heads: int) -> LawState:
    """See `base.Policy`."""
    seen = jnp.zeros((batch, heads), jnp.int32)
    return LawState(seen, running_fit.empty(batch, heads))

  def fitted(
    self, state: LawState
  ) -> tuple[Float[Array, "b h"], Float[Array, "b h"]]:
    r"""Returns $\log\alpha$ and $\beta$ of what has been recorded."""
    return running_fit.line(state.moments, self.least_beta, self.most_beta)

  def threshold(self, state: LawState, row: base.Row):
    """See `base.Policy`."""
    log_alpha, beta = self.fitted(state)
    log_step = jnp.log(row.lengths.astype(log_alpha.dtype))[:, None]
    warming = state.seen < self.warmup
    return jnp.where(warming, -jnp.inf, log_alpha - beta * log_step)

  def update(self, state: LawState, row: base.Row, log_threshold, kept):
    """See `base.Policy`."""
    del log_threshold, kept
    if row.log_scores is None:
      return state
    # No row is ranked once every sequence has its law.
    record = lambda state: self._record(state, row)
    return jax.lax.cond(
      self.wants_scores(state), record, lambda state: state, state
    )

  def read_prompt(self, state: LawState, q, k, lengths, rows: int):
    """See `base.Policy`; rows are log-spaced over each prompt."""
    steps = spread_steps(lengths, rows)

    def quantiles_of(one):  # in turn: the scores of all would be large
      q, k, steps = (x[None] for x in one)
      found = quantiles.log_score_quantiles(
        q, k, steps=steps[0], levels=(self.level,)
      )
      return found[0, :, 0]

    inside = jnp.minimum(steps, q.shape[1])
    log_theta = jax.lax.map(quantiles_of, (q, k, inside))
    return self.observe(state, log_theta, steps, lengths)

  def wants_scores(self, state: LawState):
    """See `base.Policy`."""
    return (state.seen < self.warmup).any()

  def observe(
    self,
    state: LawState,
    log_theta: Float[Array, "b h rows"],
    steps: Int[Array, "... rows"],
    lengths: Int[Array, " b"],
  ) -> LawState:
    """Records rows of a prompt, in place of so many rows of the warm-up.

    Args:
      state: usually what `init` returned.
      log_theta: quantiles of level `level`, as `quantiles.log_score_quantiles`
        gives them.
      steps: their steps from 1, rising; the same for all or each its own.
      lengths: of the prompts; rows past a prompt's end are not recorded.

    Returns:
      The next state; the warm-up is over if `warmup` rows were recorded.
    """
    steps = jnp.broadcast_to(steps, (len(lengths), steps.shape[-1]))
    live = steps <= lengths[:, None]
    x = jnp.log(steps.astype(log_theta.dtype))
    y = jnp.maximum(log_theta, self.floor)
    order = state.seen[:, :1] + jnp.arange(steps.shape[1])[None]
    moments = running_fit.add(state.moments, x, y, live & (order >= self.skip))
    return LawState(state.seen + live.sum(-1)[:, None], moments)

  def _record(self, state: LawState, row: base.Row) -> LawState:
    scores, live = base.scores_of(self, row)
    theta = quantiles.count_quantile(scores, live, self.level)
    y = jnp.maximum(theta, self.floor)[..., None].astype(jnp.result_type(float))
    x = jnp.log(row.lengths.astype(y.dtype))[:, None]
    seen = state.seen[:, 0]  # heads of a sequence see the same rows
    counts = (seen >= self.skip) & (seen < self.warmup)
    moments = running_fit.add(state.moments, x, y, counts[:, None])
    return LawState(jnp.minimum(state.seen + 1, self.warmup), moments)


def spread_steps(lengths: Int[Array, " b"], rows: int) -> Int[Array, "b rows"]:
  """Spreads steps over prompts, evenly in logarithm but no two the same.

  Each prompt has a grid of its own, so that neighbours in a batch do not matter
  to it. The first is 16: with fewer keys a quantile is one of a handful.

  Args:
    lengths: of the prompts.
    rows: how many steps.

  Returns:
    Rising steps, of which the last is the prompt's length; past it where the
    prompt has fewer than `rows` from 16 on.

  Example:
    >>> spread_steps(jnp.array([1024, 19, 5]), 5).tolist()
    [[16, 45, 128, 362, 1024], [16, 17, 18, 19, 20], [16, 17, 18, 19, 20]]
  """
  ratio = lengths[:, None].astype(jnp.float32) / _FIRST_STEP
  even = _FIRST_STEP * ratio ** jnp.linspace(0, 1, rows)[None]
  return jnp.maximum(
    jnp.round(even).astype(jnp.int32), _FIRST_STEP + jnp.arange(rows)[None]
  )


def fixed_beta(
  level: float = 0.75, warmup: int = 64, skip: int = 32
) -> PowerLaw:
  r"""The null model $\eta_S = \alpha / S$: only the level is learnt.

  Scores sum to 1, so a head whose scores keep their shape has $\beta = 1$.

  Args:
    level: $\tau$, in (0, 1].
    warmup: rows of the warm-up.
    skip: of these, how many first ones are left out.
  """
  return PowerLaw(level, warmup, skip, least_beta=1.0, most_beta=1.0)
