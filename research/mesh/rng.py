"""Random keys, one independent stream for each purpose."""

import zlib

import jax
from jaxtyping import Array, Key


def key(seed: int, purpose: str, index: int | Array = 0) -> Key[Array, ""]:
  r"""Derives the key of one draw without splitting in a loop.

  $$k = \mathrm{fold}(\mathrm{fold}(k_\mathrm{seed}, \mathrm{crc32}(p)), i)$$

  Two draws share a key only if seed, purpose and index are all the same, so
  adding a draw somewhere never changes the numbers anywhere else.

  Args:
    seed: the experiment's seed.
    purpose: what the draw is for, e.g. `"init"` or `"sampling"`.
    index: step, layer or row number; may be traced.

  Returns:
    A typed key.

  Example:
    >>> bool((key(0, "init") == key(0, "init")).all())
    True
  """
  stream = jax.random.fold_in(
    jax.random.key(seed), zlib.crc32(purpose.encode())
  )
  return jax.random.fold_in(stream, index)
