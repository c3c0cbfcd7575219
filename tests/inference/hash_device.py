"""A device for the engine whose keys are hashes: it notices every wrong page.

The key of a token is a hash of the key before it, the token and its position;
an answer is a hash of all keys up to its token, as a draw depends on all that
is attended to. So an answer is right only if every page held what it should,
and a request can be answered alone in three lines.
"""

import numpy as np

from research.inference import batch as batch_lib
from research.inference import runner

VOCAB = 16
_MASK = 2**61 - 1


def _mix(*parts: int) -> int:
  value = 1469598103934665603
  for part in parts:
    value = ((value ^ int(part)) * 1099511628211 + 12345) % _MASK
    value ^= value >> 29
  return value


def answer(tokens, draws: int, injected=None, stops=frozenset()) -> list[int]:
  """What a request alone draws.

  Args:
    tokens: the prompt.
    draws: tokens at most.
    injected: tokens to append, by the number of tokens drawn before.
    stops: tokens that end it.
  """
  injected = injected or {}
  keys, out = [], []

  def push(token):
    keys.append(_mix(keys[-1] if keys else 0, token, len(keys)))

  for token in tokens:
    push(token)
  for count in range(draws + 1):
    for token in injected.get(count, ()):
      push(token)
    if count == draws or (out and out[-1] in stops):
      return out
    out.append(_mix(sum(keys)) % VOCAB)
    push(out[-1])
  return out


class HashRunner:
  """Stands in for `runner.Runner`; runs batches in numpy, in order."""

  def __init__(self, sizes: batch_lib.Sizes, page_size: int, shapes):
    self.sizes, self.page_size, self.shapes = sizes, page_size, shapes
    self.fail_next = False
    self.written: set[int] = set()  # pages, by the last batch
    self.reset()

  fit = runner.Runner.fit

  def reset(self) -> None:
    shape = (self.sizes.num_pages, self.page_size)
    self.keys = np.zeros(shape, object)
    self.last = np.zeros(self.sizes.slots, np.int32)

  def dispatch(self, batch: batch_lib.Batch) -> runner.Answers:
    if self.fail_next:
      self.fail_next = False
      raise RuntimeError("planted")
    self.written = set()
    rows, size = len(batch.given), self.sizes.block
    before = self.last.copy()
    for row, (token, at) in enumerate(
      zip(batch.given, batch.positions, strict=True)
    ):
      slot = min(batch.slots[row], self.sizes.slots - 1)
      self._write(batch.table[row], at, token if token >= 0 else before[slot])
    for block, (tokens, start) in enumerate(
      zip(batch.pieces, batch.starts, strict=True)
    ):
      for offset, token in enumerate(tokens):  # the padding too
        self._write(batch.table[rows + block], start + offset, token)
    drawn = np.zeros(len(batch.ends), np.int32)
    for index, end in enumerate(batch.ends):
      block, offset = divmod(end - rows, size)
      row = end if end < rows else rows + block
      at = batch.positions[end] if end < rows else batch.starts[block] + offset
      drawn[index] = self._draw(batch.table[row], at)
      if batch.slots[index] < self.sizes.slots:
        self.last[batch.slots[index]] = drawn[index]
    return runner.Answers(drawn, np.zeros(len(drawn), np.float32))

  def _write(self, table, at, token) -> None:
    page, slot = self._find(table, at)
    if page < self.sizes.num_pages:
      before = self.keys[self._find(table, at - 1)] if at else 0
      self.keys[page, slot] = _mix(before, token, at)
      self.written.add(page)

  def _draw(self, table, at) -> int:
    if table[0] >= self.sizes.num_pages:
      return 0
    found = [self.keys[self._find(table, i)] for i in range(at + 1)]
    return _mix(sum(found)) % VOCAB

  def _find(self, table, at) -> tuple[int, int]:
    index, slot = divmod(int(at), self.page_size)
    inside = index < len(table)
    return (int(table[index]) if inside else self.sizes.num_pages), slot
