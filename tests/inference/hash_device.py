"""A device for the engine whose keys are hashes: it notices every wrong page.

The key of a token is a hash of the key before it, the token and its position;
an answer is a hash of all keys up to its token, as a draw depends on all that
is attended to. So an answer is right only if every page held what it should,
and a request can be answered alone in three lines. Where attention is not
exact, keys of drawn tokens also depend on what their sequence's slot remembers.
"""

import dataclasses

import numpy as np

from research.inference import batch as batch_lib
from research.inference import cached, runner

VOCAB = 16
_MASK = 2**61 - 1


def _mix(*parts: int) -> int:
  value = 1469598103934665603
  for part in parts:
    value = ((value ^ int(part)) * 1099511628211 + 12345) % _MASK
    value ^= value >> 29
  return value


def answer(
  tokens,
  draws: int,
  injected=None,
  stops=frozenset(),
  allowed=lambda drawn: 2**VOCAB - 1,
  exact: bool = True,
) -> list[int]:
  """What a request alone draws.

  Args:
    tokens: the prompt.
    draws: tokens at most.
    injected: tokens to append, by the number of tokens drawn before.
    stops: tokens that end it.
    allowed: from what was drawn to a mask of the next token.
    exact: whether drawn tokens leave a prompt's keys.
  """
  injected = injected or {}
  keys, out, memory = [], [], 0

  def push(token):
    keys.append(_mix(keys[-1] if keys else 0, token, len(keys)))

  for token in tokens:
    push(token)
  for count in range(draws + 1):
    for token in injected.get(count, ()):
      push(token)
    if count == draws or (out and out[-1] in stops):
      return out
    out.append(choose(_mix(sum(keys)), allowed(out)))
    push(out[-1])
    if not exact:
      keys[-1] = memory = _mix(keys[-1], memory)
  return out


def choose(value: int, mask: int) -> int:
  """The token that a hash stands for, among those of a mask."""
  tokens = [token for token in range(VOCAB) if mask >> token & 1]
  return tokens[value % len(tokens)]


class Climber:
  """A guide: a token is never below the one before, unless that was high."""

  narrows = True

  def __init__(self):
    self.drawn: list[int] = []

  @staticmethod
  def allowed(drawn) -> int:
    least = drawn[-1] if drawn and drawn[-1] < VOCAB - 4 else 0
    return (2**VOCAB - 1) >> least << least

  def push(self, token: int) -> bool:
    assert self.allowed(self.drawn) >> token & 1
    self.drawn.append(token)
    return False

  def masks(self, drafts, out) -> int:
    text = list(self.drawn)
    for row, draft in zip(out, [*drafts, None], strict=True):
      row[:] = self.allowed(text)
      if draft is None or not self.allowed(text) >> draft & 1:
        break
      text.append(draft)
    return len(text) - len(self.drawn)


class Guesser:
  """A drafter that is often right for a while, and sometimes absurd.

  Attributes:
    guessed: tokens so far.
  """

  def __init__(self, seed: int):
    self._rng, self.guessed = np.random.default_rng(seed), 0

  def propose(self, prefixes, most: int) -> list[list[int]]:
    return [self._guess(prefix.tokens, most) for prefix in prefixes]

  def _guess(self, tokens, most: int) -> list[int]:
    guesses = answer(tokens, int(self._rng.integers(0, most + 3)))
    if guesses and self._rng.random() < 0.5:
      guesses[self._rng.integers(len(guesses))] = int(self._rng.integers(VOCAB))
    self.guessed += len(guesses[:most])
    return guesses


@dataclasses.dataclass(frozen=True)
class Inexact(cached.Dense):
  """Says that it is not exact."""

  exact: bool = dataclasses.field(default=False, init=False)


class HashRunner:
  """Stands in for `runner.Runner`; runs batches in numpy, in order."""

  def __init__(
    self, sizes: batch_lib.Sizes, page_size: int, shapes, exact: bool = True
  ):
    self.sizes, self.page_size, self.shapes = sizes, page_size, shapes
    self.exact = exact
    self.fail_next = False
    self.written: set[int] = set()  # pages, by the last batch
    self.reset()

  fit = runner.Runner.fit
  longest = runner.Runner.longest

  def reset(self) -> None:
    shape = (self.sizes.num_pages, self.page_size)
    self.keys = np.zeros(shape, object)
    self.last = np.zeros(self.sizes.slots, np.int32)
    self.memory = np.zeros(self.sizes.slots, object)

  def dispatch(self, batch: batch_lib.Batch) -> runner.Answers:
    if self.fail_next:
      self.fail_next = False
      raise RuntimeError("planted")
    self.written = set()
    rows, blocks, length = shape = batch.shape
    before = self.last.copy()
    for row, (tokens, start) in enumerate(
      zip(batch.given, batch.positions, strict=True)
    ):
      slot = min(batch.slots[row], self.sizes.slots - 1)
      first = tokens[0] if tokens[0] >= 0 else before[slot]
      self._write(batch.table[row], start, [first, *tokens[1:]])
      if not self.exact and batch.slots[row] < self.sizes.slots:
        self._learn(batch.table[row], start, slot, batch.fresh[row])
    for block, (tokens, start) in enumerate(
      zip(batch.pieces, batch.starts, strict=True)
    ):
      self._write(batch.table[rows + block], start, tokens)
    drawn = np.zeros(shape.draws, np.int32)
    for index in range(rows * length):
      row, offset = divmod(index, length)
      at = batch.positions[row] + offset
      drawn[index] = self._draw(batch.table[row], at, batch.masks[index])
    for index, end in enumerate(batch.ends, rows * length):
      block, offset = divmod(end, self.sizes.block)
      at = batch.starts[block] + offset
      drawn[index] = self._draw(
        batch.table[rows + block], at, batch.masks[index]
      )
    for place, index in enumerate(shape.firsts):
      if batch.slots[place] < self.sizes.slots:
        self.last[batch.slots[place]] = drawn[index]
    assert len(batch.slots) == rows + blocks
    return runner.Answers(drawn, np.zeros(len(drawn), np.float32))

  def _write(self, table, start, tokens) -> None:
    """Writes tokens one after another, those that are padding too."""
    for at, token in enumerate(tokens, int(start)):
      page, slot = self._find(table, at)
      if page < self.sizes.num_pages:
        before = self.keys[self._find(table, at - 1)] if at else 0
        self.keys[page, slot] = _mix(before, token, at)
        self.written.add(page)

  def _learn(self, table, at, slot, fresh) -> None:
    """Mixes what the slot remembers into a drawn token's key."""
    before = 0 if fresh else self.memory[slot]
    where = self._find(table, at)
    self.keys[where] = self.memory[slot] = _mix(self.keys[where], before)

  def _draw(self, table, at, mask) -> int:
    if any(self._find(table, i)[0] >= self.sizes.num_pages for i in (0, at)):
      return 0  # of nobody, or past what a row may draw
    found = [self.keys[self._find(table, i)] for i in range(at + 1)]
    return choose(_mix(sum(found)), int(mask[0]))

  def _find(self, table, at) -> tuple[int, int]:
    index, slot = divmod(int(at), self.page_size)
    inside = index < len(table)
    return (int(table[index]) if inside else self.sizes.num_pages), slot
