r"""What every policy has in common: a threshold for each row of scores.

A row is one query of one head; its scores are $a_j = \exp(s_j - \mathrm{LSE})$.
All policies are brought to one form, a log threshold $\log\eta$ relative to the
LSE, so that the kept set is $\{j : \log a_j \ge \log\eta\}$ and the rows that
`selection.Always` names by position. Dense attention is $\eta = 0$, and a
policy that goes by position alone is $\eta = \infty$.

The form serves two callers. A kernel knows the LSE (and the maximum) of a row
before it reads any value, and wants one number to compare with; teacher-forced
evaluation has all scores and wants a mask. Both call the same `threshold`; they
differ in how much of the `Row` they fill in, and `reads` says how much is
needed: `"step"` and `"maximum"` suit a kernel that keeps no scores.

The step $S$ is the number of keys that a query sees, itself included, never a
position counted from 0.
"""

from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Reads = Literal["step", "maximum", "scores"]


class Row(NamedTuple):
  r"""What is known of one query a sequence before values are read.

  Attributes:
    lengths: the step $S$ of each sequence, `[b]`, at least 1.
    log_max: the largest $\log a_j$ of each head, `[b, h]`.
    log_scores: $\log a_j$ in float32, `[b, h, t]`, of which the first $S$ are
      live and the rest may be anything; `None` where only the maximum is known.
  """

  lengths: jax.Array
  log_max: jax.Array
  log_scores: jax.Array | None = None


@runtime_checkable  # the tests' type checker looks with isinstance
class Policy(Protocol):
  """Predicts thresholds; a frozen dataclass, its state an explicit pytree.

  Every leaf of the state starts with `[b, h]`: layers keep a state each, and
  `init` is the reset between prompts.
  """

  @property
  def reads(self) -> Reads:
    """How much of a `Row` the threshold needs."""
    ...

  def init(self, batch: int, heads: int) -> Any:
    """Returns the state of sequences of which nothing has been seen."""
    ...

  def read_prompt(
    self,
    state: Any,
    q: Float[Array, "b s h d"],
    k: Float[Array, "b s k d"],
    lengths: Int[Array, " b"],
    rows: int,
  ) -> Any:
    """Learns from a prompt, which is attended exactly.

    Args:
      state: usually what `init` returned.
      q: rotated queries, of padded prompts.
      k: rotated keys of the same tokens.
      lengths: of the prompts; what lies past them does not count.
      rows: how many queries of each prompt may be learnt from.

    Returns:
      The next state, of the same shapes.
    """
    ...

  def wants_scores(self, state: Any) -> Bool[Array, ""] | bool:
    """Returns whether `update` would learn from the next row's scores.

    It may want them where `threshold` does not read them: a caller that keeps
    none then makes them for this row.
    """
    ...

  def threshold(self, state: Any, row: Row) -> Float[Array, "b h"]:
    r"""Returns $\log\eta$ of each head, $-\infty$ where all rows are kept."""
    ...

  def update(
    self,
    state: Any,
    row: Row,
    log_threshold: Float[Array, "b h"],
    kept: Int[Array, "b h"],
  ) -> Any:
    """Learns from a row.

    Args:
      state: the state that the threshold came from.
      row: the row.
      log_threshold: what `threshold` returned.
      kept: how many of the row's scores were kept.

    Returns:
      The next state, of the same shapes.
    """
    ...


def make_row(
  log_probabilities: Float[Array, "b h t"], lengths: Int[Array, " b"]
) -> Row:
  """Makes a full row, its maximum over live scores only."""
  live = live_keys(lengths, log_probabilities.shape[-1])[:, None]
  log_max = jnp.where(live, log_probabilities, -jnp.inf).max(-1)
  return Row(lengths, log_max, log_probabilities)


def live_keys(lengths: Int[Array, " b"], size: int) -> jax.Array:
  """Returns which of `size` slots hold keys that are seen, `[b, size]`."""
  return jnp.arange(size)[None, :] < lengths[:, None]


def scores_of(policy: Policy, row: Row) -> tuple[jax.Array, jax.Array]:
  """Returns a row's log scores and which are live, both `[b, h, t]`.

  Args:
    policy: named in the message.
    row: the row.

  Raises:
    ValueError: if the row came without scores.
  """
  if row.log_scores is None:
    raise ValueError(
      f"{type(policy).__name__} needs a row's scores, got its maximum only; "
      'choose a policy that reads "step" or "maximum", or keep the scores'
    )
  live = live_keys(row.lengths, row.log_scores.shape[-1])[:, None]
  return row.log_scores, jnp.broadcast_to(live, row.log_scores.shape)
