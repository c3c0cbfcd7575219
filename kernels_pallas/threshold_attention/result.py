"""What every implementation of threshold attention returns, or refuses."""

from typing import NamedTuple

import jax


class Attended(NamedTuple):
  """One decode step of threshold attention.

  Attributes:
    out: `[b, h, d]`, renormalised over the kept tokens, in the dtype of `q`;
      zeros for a row of length 0.
    lse: `[b, h]` float32, log-sum-exp of *all* scores, in nats.
    kept: `[b, h]` int32, tokens that each query head kept.
    mass: `[b, h]` float32, softmax mass of the kept tokens, in [0, 1].
    rows: `[b, k]` int32, value rows that were needed: tokens that at least one
      query head of the group kept.
  """

  out: jax.Array
  lse: jax.Array
  kept: jax.Array
  mass: jax.Array
  rows: jax.Array


class UnsupportedError(NotImplementedError):
  """An implementation cannot serve these arguments on this machine."""
