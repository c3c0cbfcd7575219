"""What follows an answer as it grows: it may narrow its tokens, or end it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

_WORD = 32  # tokens in a word of a mask


@runtime_checkable  # the tests' type checker looks with isinstance
class Guide(Protocol):
  """Follows one answer; `Request.guides` start one each.

  Attributes:
    narrows: whether it has masks. The next token of its request is then drawn
      only when the one before is known.
  """

  narrows: bool

  def push(self, token: int) -> bool:
    """Takes a drawn token; returns whether the answer ends with it."""
    ...

  def masks(self, drafts: Sequence[int], out: np.ndarray) -> int:
    """Writes which tokens may come next, and next after each draft.

    It forgets the drafts again: which of them are drawn is not known yet.

    Args:
      drafts: tokens that may be drawn.
      out: of ones; bit `t % 32` of word `t // 32` becomes 0 where token `t`
        may not come, `[drafts + 1, words]` of uint32.

    Returns:
      How many of the drafts may come; only their masks are right, and the one
      after them.
    """
    ...


def num_words(vocab_size: int) -> int:
  """Returns the words of a mask.

  Args:
    vocab_size: tokens.

  Example:
    >>> num_words(256)
    8
  """
  return -(-vocab_size // _WORD)


def combine(
  guides: Sequence[Guide], drafts: tuple[int, ...], vocab_size: int
) -> tuple[tuple[int, ...], np.ndarray | None]:
  """Asks all guides of an answer.

  Args:
    guides: of one answer.
    drafts: tokens that may be drawn.
    vocab_size: tokens of the model.

  Returns:
    The drafts that all allow, and the tokens that may come next and after each
    of them as `Guide.masks` writes them; `None` where any may.
  """
  narrow = [guide for guide in guides if guide.narrows]
  if not narrow:
    return drafts, None
  everything = 0xFFFFFFFF
  shape = (len(drafts) + 1, num_words(vocab_size))
  masks = np.full(shape, everything, np.uint32)
  for guide in narrow:
    own = np.full((len(drafts) + 1, shape[1]), everything, np.uint32)
    drafts = drafts[: guide.masks(drafts, own)]
    masks = masks[: len(drafts) + 1] & own[: len(drafts) + 1]
  return drafts, masks
