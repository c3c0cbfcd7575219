"""What agents add up in groups, and look up there.

All sums are of whole numbers, so they have no order; hazards are whole
multiples of 2^-26 nats, so their sums have none either.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, Int32, UInt32

from research.systems.epicast.disease import CONTEXTS, HAZARD_BITS

CAP = 0.2 * 2.0**32  # five terms of at most 12.8 nats fit in 32 bits
_MOST = np.uint32(0x7FFFFFFF)  # 32 nats: two such terms fit


def add(
  words: UInt32[Array, " n"], group: Int[Array, " n"], groups: int
) -> UInt32[Array, " groups"]:
  """Sums of words by group."""
  zeros = jnp.zeros(groups, jnp.uint32)
  return zeros.at[group].add(words, mode="promise_in_bounds")


def get(table: jax.Array, index: jax.Array) -> jax.Array:
  """Entries of a table at indices that are known to be in it."""
  return table.at[index].get(mode="promise_in_bounds")


def scale_of(
  scale: Float32[Array, "counties contexts"],
  context: str,
  county: Int32[Array, " g"],
) -> Float32[Array, " g"]:
  """Scales of a context where groups are."""
  return get(scale[:, CONTEXTS.index(context)], county)


def whole(hazard: jax.Array) -> jax.Array:
  """Rounds hazards to whole numbers."""
  return jnp.rint(jnp.minimum(hazard, np.float32(CAP))).astype(jnp.uint32)


def together(first: jax.Array, second: jax.Array) -> jax.Array:
  """Adds hazards; 32 nats and more are 32 nats, in any order."""
  return jnp.minimum(first + second, _MOST)


def chance(hazard: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
  """The word of 32 bits below which a draw makes something happen."""
  nats = hazard.astype(jnp.float32) * np.float32(2.0**-HAZARD_BITS)
  probability = jnp.minimum(-jnp.expm1(-nats), np.float32(1 - 2.0**-24))
  return (probability * np.float32(2.0**32)).astype(jnp.uint32)
