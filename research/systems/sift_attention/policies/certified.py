"""A bound on what a policy may lose, and dense rows past it."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from research.systems.sift_attention.policies import base


@dataclasses.dataclass(frozen=True)
class Certified:
  r"""Makes a head's row dense where the policy would keep too little mass.

  With $m$ the kept share of a head's probability, renormalised sifting is off
  by at most $2 (1 - m) \max_j \|v_j\|$ (`sifting.error_bound`); a row with
  $m <$ `least_mass` gets the threshold $-\infty$ and no error at all, so no
  output is off by more than $2 (1 - m_{\min}) \max_j \|v_j\|$.

  The mass counted is that of scores over the threshold. Rows that
  `selection.Always` adds by position only make it larger. Wrap a controller,
  not the other way round; a row that fell back does not wind it up.

  Attributes:
    inner: the policy.
    least_mass: $m_{\min}$, in (0, 1).
  """

  inner: base.Policy
  least_mass: float
  reads: base.Reads = dataclasses.field(default="scores", init=False)

  def __post_init__(self):
    if not 0 < self.least_mass < 1:
      raise ValueError(
        f"least_mass must lie between 0 and 1, got {self.least_mass}; Dense "
        "keeps all of it"
      )

  def init(self, batch: int, heads: int) -> Any:
    """See `base.Policy`."""
    return self.inner.init(batch, heads)

  def read_prompt(self, state, q, k, lengths, rows: int):
    """See `base.Policy`."""
    return self.inner.read_prompt(state, q, k, lengths, rows)

  def wants_scores(self, state):
    """See `base.Policy`."""
    return self.inner.wants_scores(state)

  def threshold(self, state, row: base.Row):
    """See `base.Policy`."""
    scores, live = base.scores_of(self, row)
    found = self.inner.threshold(state, row)
    # As in kernels, a finite threshold keeps the highest score at least.
    least = jnp.where(
      found == jnp.inf, jnp.inf, jnp.minimum(found, row.log_max)
    )
    kept = live & (scores >= least[..., None])
    mass = jnp.where(kept, jnp.exp(scores), 0).sum(-1)
    return jnp.where(mass < self.least_mass, -jnp.inf, found)

  def update(self, state, row: base.Row, log_threshold, kept):
    """See `base.Policy`."""
    return self.inner.update(state, row, log_threshold, kept)
