"""Random numbers that belong to an agent and a step, not to a position.

Threefry-2x32 in counter mode: the key says which decision, the counter which
agent and which step. Sorting, padding, sharding or adding agents changes no
other agent's numbers, and two scenarios share all of them.
"""

import typing

import jax
import numpy as np
from jaxtyping import UInt32

from research import mesh

# The host builds populations and the device runs them, with the same draws.
Words = typing.TypeVar("Words", np.ndarray, jax.Array)

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def key(
  seed: int, decision: str, replicate: int = 0
) -> UInt32[np.ndarray, " 2"]:
  """Returns the key of one decision: folded seed, decision, replicate.

  Args:
    seed: of the experiment.
    decision: what is drawn, e.g. `"infection"`.
    replicate: which run of the experiment.

  Example:
    >>> key(0, "infection").dtype
    dtype('uint32')
  """
  return np.asarray(jax.random.key_data(mesh.key(seed, decision, replicate)))


def words(
  key: UInt32[np.ndarray | jax.Array, " 2"], agent: Words, step: Words
) -> tuple[Words, Words]:
  """Returns two independent words of 32 random bits for each counter.

  Equal to JAX's own `threefry2x32`, bit for bit, and a quarter of the time of
  `jax.random.bits`: XLA keeps JAX's rounds on a CPU as a loop over arrays.

  Args:
    key: of the decision.
    agent: first word of the counters, uint32 `[n]`.
    step: second word of the counters, uint32 `[n]`.

  References:
    Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
  """
  keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
  x, y = agent + keys[0], step + keys[1]
  for block in range(5):
    for turn in _ROTATIONS[block % 2]:
      x = x + y
      y = ((y << np.uint32(turn)) | (y >> np.uint32(32 - turn))) ^ x
    x = x + keys[(block + 1) % 3]
    y = y + keys[(block + 2) % 3] + np.uint32(block + 1)
  return typing.cast(tuple[Words, Words], (x, y))


def uniform(bits: UInt32[np.ndarray, " n"]) -> np.ndarray:
  """Maps words to float64 strictly between 0 and 1 (on the host).

  Example:
    >>> uniform(np.array([1 << 31], np.uint32))
    array([0.5])
  """
  return (bits + 0.5) * 2.0**-32


def below(
  bits: UInt32[np.ndarray, " n"], limits: np.ndarray | int
) -> np.ndarray:
  """Maps words to integers from 0 to one below `limits` (on the host).

  Example:
    >>> below(np.array([0, 1 << 31, (1 << 32) - 1], np.uint32), 10)
    array([0, 5, 9])
  """
  wide = bits.astype(np.uint64) * np.asarray(limits).astype(np.uint64)
  return (wide >> np.uint64(32)).astype(np.int64)


def threshold(probability: np.ndarray | float | int) -> np.ndarray:
  """The word below which a draw has this probability (on the host).

  Example:
    >>> threshold(np.array([0, 0.5, 1]))
    array([         0, 2147483648, 4294967295], dtype=uint32)
  """
  scaled = np.rint(np.asarray(probability, np.float64) * 2.0**32)
  return np.asarray(np.minimum(scaled, 2.0**32 - 1), np.uint32)
