"""Ending an answer at given texts."""

from collections.abc import Sequence

import numpy as np

from research.data import tokenizer


class StopText:
  """Holds back what may be the beginning of a stop text.

  Attributes:
    stopped: whether a stop text or the end-of-text token has come.
  """

  def __init__(self, words: tokenizer.Tokenizer, stops: Sequence[str]):
    self._words, self._stops = words, [stop for stop in stops if stop]
    self._stream = tokenizer.StreamDecoder(words)
    self._held = ""
    self._cut = False  # a stop text came: nothing after it counts
    self.stopped = False

  def push(self, token: int) -> str:
    """Takes the next token.

    Args:
      token: its number.

    Returns:
      The text that is now certain to belong to the answer.
    """
    if token == self._words.eos_id:
      self.stopped = True
      return ""
    self._held += self._stream.push(token)
    ends = [self._held.find(stop) for stop in self._stops]
    found = [end for end in ends if end >= 0]
    if found:
      self.stopped = self._cut = True
      return self._held[: min(found)]
    keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
    cut = len(self._held) - keep
    text, self._held = self._held[:cut], self._held[cut:]
    return text

  def flush(self) -> str:
    """Returns what was held back; call it once, after the last token."""
    if self._cut:
      return ""
    return self._held + self._stream.flush()


class StopTexts:
  """Ends an engine's answer where one of the texts is complete; a `Guide`.

    Request(prompt, guides=(functools.partial(StopTexts, words, ["\n\n"]),))

  The last token may hold more than the text's end; `StopText` cuts that off.

  Args:
    words: the model's tokenizer.
    stops: the texts.
  """

  narrows = False

  def __init__(self, words: tokenizer.Tokenizer, stops: Sequence[str]):
    self._eos_id, self._text = words.eos_id, StopText(words, stops)

  def push(self, token: int) -> bool:
    """See `Guide`; the end-of-text token is the engine's business."""
    if token != self._eos_id:
      self._text.push(token)
    return self._text.stopped

  def masks(self, drafts: Sequence[int], out: np.ndarray) -> int:
    """See `Guide`: any token may come."""
    del out
    return len(drafts)


def _overlap(text: str, stop: str) -> int:
  """The longest end of `text` that begins `stop`."""
  sizes = range(min(len(text), len(stop) - 1), 0, -1)
  return next((n for n in sizes if text.endswith(stop[:n])), 0)
