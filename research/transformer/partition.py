"""What the ranks that share a decoder's weights say to one another."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@runtime_checkable  # the tests' type checker looks with isinstance
class Partition(Protocol):
  """What a decoder does where a sum runs over weights of several ranks."""

  @property
  def whole_heads(self) -> bool:
    """Whether a rank has all of each of its heads."""
    ...

  def total(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Adds the products with each rank's rows of a matrix."""
    ...

  def total_scores(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Adds the scores of each rank's part of every head."""
    ...

  def mean_square(self, x: Float[Array, "*b d"]) -> Float[Array, "*b 1"]:
    """Returns the mean square over a whole head."""
    ...

  def look_up(
    self, table: Float[Array, "vocab e"], tokens: Int[Array, "b s"]
  ) -> Float[Array, "b s e"]:
    """Returns each token's row of the embedding."""
    ...

  def join_logits(
    self, x: Float[Array, "b s part"]
  ) -> Float[Array, "b s vocab"]:
    """Returns the logits of the whole vocabulary."""
    ...

  def frequencies(
    self, inverse: Float[np.ndarray, " pairs"]
  ) -> Float[Array, " own"] | Float[np.ndarray, " own"]:
    """Returns the angular steps of this rank's rotary pairs."""
    ...


@dataclasses.dataclass(frozen=True)
class Whole:
  """All weights at hand: nothing is said."""

  @property
  def whole_heads(self) -> bool:
    """See `Partition`."""
    return True

  def total(self, x):
    """See `Partition`."""
    return x

  def total_scores(self, x):
    """See `Partition`."""
    return x

  def mean_square(self, x):
    """See `Partition`."""
    return jnp.mean(x * x, axis=-1, keepdims=True)

  def look_up(self, table, tokens):
    """See `Partition`."""
    return table[tokens]

  def join_logits(self, x):
    """See `Partition`."""
    return x

  def frequencies(self, inverse):
    """See `Partition`."""
    return inverse
