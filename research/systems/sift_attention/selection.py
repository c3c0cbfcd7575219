"""Which value rows are kept: a policy's threshold and rows by position."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.systems.sift_attention.policies import base, rules


@dataclasses.dataclass(frozen=True)
class Always:
  """Rows that are kept whatever their scores.

  Attributes:
    sinks: how many first rows.
    newest: how many last rows; the query's own token is the default.
    share: the last rows are more than `newest` where sinks and they make up
      less than this share of the row.
  """

  sinks: int = 0
  newest: int = 1
  share: float = 0.0

  def __post_init__(self):
    if self.sinks < 0 or self.newest < 0 or not 0 <= self.share <= 1:
      raise ValueError(
        f"sinks and newest must not be negative and share lie in [0, 1], got "
        f"{self.sinks}, {self.newest} and {self.share}"
      )

  def window_start(self, lengths: Int[Array, " b"]) -> Int[Array, " b"]:
    """Returns the slot from which on all are kept, of each sequence."""
    by_share = jnp.round(self.share * lengths).astype(lengths.dtype)
    newest = jnp.maximum(self.newest, by_share - self.sinks)
    return jnp.maximum(lengths - newest, 0)

  def mask(self, lengths: Int[Array, " b"], size: int) -> Bool[Array, "b t"]:
    """Returns which of `size` slots are kept, dead ones among them."""
    slot = jnp.arange(size)[None, :]
    return (slot < self.sinks) | (slot >= self.window_start(lengths)[:, None])


class Selection(NamedTuple):
  """What is kept of one query a sequence.

  Attributes:
    keep: `[b, h, t]`, live slots only and at least one of every head.
    log_threshold: what the policy predicted, `[b, h]`.
  """

  keep: jax.Array
  log_threshold: jax.Array


def threshold(
  policy: base.Policy, state: Any, row: base.Row, always: Always
) -> Float[Array, "b h"]:
  r"""The number that a kernel compares $s_j - \mathrm{LSE}$ with.

  A finite one comes down to the row's maximum there, so that it always keeps
  something; $+\infty$ goes by position alone.

  Args:
    policy: predicts it.
    state: the policy's.
    row: as much of a row as the policy reads.
    always: rows kept by position. Where the newest is not among them, the
      threshold is finite: no row is ever empty.

  Returns:
    $\log\eta$ of each head.
  """
  found = policy.threshold(state, row)
  if always.newest == 0:  # sinks or a share may still lie past a short row
    found = jnp.minimum(found, jnp.finfo(found.dtype).max)
  return found


def select(
  policy: base.Policy,
  state: Any,
  log_probabilities: Float[Array, "b h t"],
  lengths: Int[Array, " b"],
  always: Always = Always(),
) -> tuple[Selection, Any]:
  r"""Selects rows and lets the policy learn from them, as one step of decoding.

  $$K = \{j < S : \log a_j \ge \log\eta\} \cup \mathrm{always}$$

  Args:
    policy: predicts the threshold.
    state: the policy's.
    log_probabilities: $\log a_j$ of exact attention; slots from `lengths` on
      may hold anything.
    lengths: the step $S$ of each sequence: keys seen, the newest included.
    always: rows kept by position.

  Returns:
    What is kept, and the policy's next state.

  Example:
    >>> scores = jnp.log(jnp.array([[[0.6, 0.05, 0.25, 0.1]]]))
    >>> chosen, _ = select(rules.TopK(2), (), scores, jnp.array([4]))
    >>> chosen.keep.tolist()
    [[[True, False, True, True]]]
  """
  size = log_probabilities.shape[-1]
  row = base.make_row(log_probabilities, lengths)
  found = threshold(policy, state, row, always)
  # As in kernels: a finite threshold keeps the highest score at least.
  lowered = jnp.minimum(found, row.log_max)
  least = jnp.where(found == jnp.inf, found, lowered)
  keep = log_probabilities >= least[..., None]
  keep |= always.mask(lengths, size)[:, None]
  keep &= base.live_keys(lengths, size)[:, None]
  kept = keep.sum(-1, dtype=jnp.int32)
  return Selection(keep, found), policy.update(state, row, found, kept)


def streaming_llm(
  sinks: int = 4, newest: int = 1, share: float = 0.0
) -> tuple[rules.PositionOnly, Always]:
  """StreamingLLM: the first rows and a window of the last ones.

  Args:
    sinks: how many first rows.
    newest: the window.
    share: the share of the row kept in all, where that makes a wider window.

  Returns:
    The policy and the rows, both for `select`.

  References:
    StreamingLLM, arXiv 2309.17453.
  """
  return rules.PositionOnly(), Always(sinks, max(newest, 1), share)
