"""Feedback that holds a policy to a budget."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.systems.sift_attention.policies import base


class ControlState(NamedTuple):
  r"""The wrapped policy's state, and $\log c$ of each head, `[b, h]`."""

  inner: Any
  log_c: jax.Array


@dataclasses.dataclass(frozen=True)
class Controlled:
  r"""Scales a policy's threshold until each head keeps its target share.

  $$\log c \leftarrow \log c + \kappa (f - f^*), \qquad
    \log\eta = \log c + \log\eta_{\mathrm{inner}}$$

  where $f$ is the share of the row that was kept, forced rows included. Rows of
  a warm-up, whose threshold is $-\infty$, do not wind it up. Summed over $T$
  steps, the mean miss is $\Delta\log c / (\kappa T)$: a head whose inner
  policy is wrong by 12 nats misses by a hundredth over 600 steps of gain 2.

  Attributes:
    inner: the policy; it needs only to be roughly right.
    target: $f^*$, in (0, 1).
    gain: $\kappa$, positive, in nats for a share of 1.
  """

  inner: base.Policy
  target: float
  gain: float = 2.0

  def __post_init__(self):
    if not 0 < self.target < 1:
      raise ValueError(f"target must lie between 0 and 1, got {self.target}")
    if not self.gain > 0:  # nan neither
      raise ValueError(f"gain must be positive, got {self.gain}")

  @property
  def reads(self) -> base.Reads:
    """See `base.Policy`."""
    return self.inner.reads

  def init(self, batch: int, heads: int) -> ControlState:
    """See `base.Policy`."""
    return ControlState(
      self.inner.init(batch, heads), jnp.zeros((batch, heads))
    )

  def read_prompt(self, state: ControlState, q, k, lengths, rows: int):
    """See `base.Policy`."""
    inner = self.inner.read_prompt(state.inner, q, k, lengths, rows)
    return state._replace(inner=inner)

  def wants_scores(self, state: ControlState):
    """See `base.Policy`."""
    return self.inner.wants_scores(state.inner)

  def threshold(self, state: ControlState, row: base.Row):
    """See `base.Policy`."""
    return self.inner.threshold(state.inner, row) + state.log_c

  def update(self, state: ControlState, row: base.Row, log_threshold, kept):
    """See `base.Policy`."""
    share = kept / row.lengths[:, None]
    push = self.gain * (share - self.target)
    log_c = state.log_c + jnp.where(jnp.isfinite(log_threshold), push, 0)
    own = log_threshold - state.log_c
    return ControlState(self.inner.update(state.inner, row, own, kept), log_c)
