"""Numbers as 32-bit words, which is what the kernels move and add.

A word is a float32 or a pair of bfloat16. These are added in float32 and
rounded, as in the paper's code, so that a sum over n nodes is rounded in each
of its log2(n) steps.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, Shaped

DTYPES = ("bfloat16", "float32")

_HIGH = -(1 << 16)  # the upper half of a word


def pack(x: Shaped[Array, " n"]) -> Int32[Array, " words"]:
  """Turns numbers into words; an odd bfloat16 gets a zero beside it.

  Example:
    >>> pack(jnp.array([1, 2, 3], jnp.bfloat16)).shape
    (2,)
  """
  if x.dtype == jnp.bfloat16:
    x = jnp.pad(x, (0, x.size % 2)).reshape(-1, 2)
  return lax.bitcast_convert_type(x, jnp.int32)


def unpack(
  words: Int32[Array, " words"], like: jax.ShapeDtypeStruct
) -> Shaped[Array, "..."]:
  """Turns words into numbers again; words past the end are dropped."""
  x = lax.bitcast_convert_type(words, like.dtype).reshape(-1)
  return x[: like.size].reshape(like.shape)


def add(a: jax.Array, b: jax.Array, dtype: str) -> jax.Array:
  """Adds words of a dtype, number by number.

  Args:
    a: words.
    b: words, of the same shape.
    dtype: one of `DTYPES`.

  Returns:
    Their sum, rounded once for each pair of numbers; the same if `a` and `b`
    change places.
  """
  if dtype == "float32":
    return _bits(_float(a) + _float(b))
  high = _round(_float(a & _HIGH) + _float(b & _HIGH))
  low = _round(_float(a << 16) + _float(b << 16))
  return (high & _HIGH) | ((low >> 16) & 0xFFFF)


def _round(x: jax.Array) -> jax.Array:
  """The nearest bfloat16, as the bits of a float32."""
  return _bits(x.astype(jnp.bfloat16).astype(jnp.float32))


def _float(words: jax.Array) -> jax.Array:
  return lax.bitcast_convert_type(words, jnp.float32)


def _bits(x: jax.Array) -> jax.Array:
  return lax.bitcast_convert_type(x, jnp.int32)
