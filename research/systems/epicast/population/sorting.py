"""Sorting of people within groups, with one fast sort of packed words."""

import numpy as np

from research.runs import errors

_BITS = 20  # of scores


def order(group: np.ndarray, score: np.ndarray) -> np.ndarray:
  """Sorts by group, then by score, then by position.

  The first 20 bits of scores count, however many people there are, so that the
  order within a group is the same in any region; equal ones keep their order.

  Args:
    group: from zero, `[n]`.
    score: float or uint32, `[n]`.

  Returns:
    Positions in order, `[n]`.

  Raises:
    UserError: there are too many for such words.

  Example:
    >>> order(np.array([1, 0, 1]), np.array([0.5, 2.0, -3.0]))
    array([1, 2, 0])
  """
  if not len(group):
    return np.zeros(0, np.int64)
  below = len(group).bit_length()
  if below + _BITS + int(group.max()).bit_length() > 64:
    raise errors.UserError(
      f"got {len(group):,} people in {int(group.max()) + 1:,} groups; expected "
      "fewer: build the region in parts"
    )
  word = group.astype(np.uint64) << np.uint64(_BITS)
  word |= (_ordered(score) >> np.uint32(32 - _BITS)).astype(np.uint64)
  word <<= np.uint64(below)
  word |= np.arange(len(group), dtype=np.uint64)
  word.sort()
  word &= np.uint64((1 << below) - 1)
  return word.view(np.int64)


def rank(group: np.ndarray, score: np.ndarray) -> np.ndarray:
  """The place of each score among those of its group, the least being 0.

  Args:
    group: from zero, `[n]`.
    score: float or uint32, `[n]`.

  Example:
    >>> rank(np.array([1, 0, 1]), np.array([0.5, 2.0, -3.0])).tolist()
    [1, 0, 0]
  """
  places = order(group, score)
  counts = np.bincount(group)
  ranks = np.empty(len(group), np.int32)
  starts = (np.cumsum(counts) - counts).astype(np.int32)
  turn = np.arange(len(group), dtype=np.int32)
  ranks[places] = turn - np.repeat(starts, counts)
  return ranks


def _ordered(score: np.ndarray) -> np.ndarray:
  """Words that are ordered as the scores are."""
  if score.dtype == np.uint32:
    return score
  bits = score.astype(np.float32).view(np.uint32)
  negative = bits >> np.uint32(31) == 1
  return np.where(negative, ~bits, bits | np.uint32(1 << 31))
