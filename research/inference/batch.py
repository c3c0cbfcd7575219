"""A plan as arrays of one of the compiled shapes."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from research.inference import guides, sampling
from research.inference.scheduler import Plan, Work


class Shape(NamedTuple):
  """What a compiled step has room for.

  Attributes:
    rows: sequences that decode.
    blocks: blocks of pieces.
    length: tokens of each row: the next one, and drafts.
  """

  rows: int
  blocks: int
  length: int = 1

  @property
  def draws(self) -> int:
    """Tokens that a step draws: one behind each of a row, one a block."""
    return self.rows * self.length + self.blocks

  @property
  def firsts(self) -> np.ndarray:
    """Each place's first draw."""
    rows = np.arange(self.rows) * self.length
    return np.append(rows, self.rows * self.length + np.arange(self.blocks))


class Sizes(NamedTuple):
  """What is the same in all of an engine's shapes.

  Attributes:
    block: tokens in a block.
    pages: pages a sequence holds at most.
    num_pages: pages of the pool.
    slots: sequences that run at once at most.
    vocab: tokens of the model.
  """

  block: int
  pages: int
  num_pages: int
  slots: int
  vocab: int


class Batch(NamedTuple):
  """One step's arrays; a row or block of nobody writes and answers nothing.

  Each token of a row draws its successor, and so may the last one of a piece of
  a prompt: `draws = rows * length + blocks`, those of rows first. The row or
  piece of a sequence is its place, `places = rows + blocks`.

  Attributes:
    given: tokens of each decoding row, `[rows, length]`; where the first one is
      -1, the one that the device drew last for its slot.
    positions: of each row's first token, `[rows]`.
    fresh: whether it is the first drawn one of its sequence, `[rows]`.
    pieces: tokens of each block, `[blocks, block]`.
    starts: position of each block's first token, `[blocks]`.
    table: page number of each row's and then each block's i-th page,
      `[places, pages]`.
    ends: index of each piece's last token among those of blocks, `[blocks]`.
    slots: where to keep what each place draws first, `[places]`; one past the
      last for nowhere.
    settings: how each place draws.
    wanted: whether log-probabilities are, `[places]`.
    masks: bit `t % 32` of word `t // 32`: whether token `t` may be drawn,
      `[draws, words]`.
  """

  given: sampling.HostArray
  positions: sampling.HostArray
  fresh: sampling.HostArray
  pieces: sampling.HostArray
  starts: sampling.HostArray
  table: sampling.HostArray
  ends: sampling.HostArray
  slots: sampling.HostArray
  settings: sampling.Rows
  wanted: sampling.HostArray
  masks: sampling.HostArray

  @property
  def shape(self) -> Shape:
    """Of the step that it is for."""
    rows, length = self.given.shape
    return Shape(rows, len(self.pieces), length)


def empty(shape: Shape, sizes: Sizes) -> Batch:
  """Returns a batch of nobody.

  Args:
    shape: of the step.
    sizes: of the engine.
  """
  rows, blocks, length = shape
  places = rows + blocks
  return Batch(
    given=np.zeros((rows, length), np.int32),
    positions=np.zeros(rows, np.int32),
    fresh=np.zeros(rows, bool),
    pieces=np.zeros((blocks, sizes.block), np.int32),
    starts=np.zeros(blocks, np.int32),
    table=np.full((places, sizes.pages), sizes.num_pages, np.int32),
    ends=np.zeros(blocks, np.int32),
    slots=np.full(places, sizes.slots, np.int32),
    settings=sampling.Rows(*(np.repeat(x, places, axis=0) for x in _greedy())),
    wanted=np.zeros(places, bool),
    masks=np.full(
      (shape.draws, guides.num_words(sizes.vocab)), 0xFFFFFFFF, np.uint32
    ),
  )


@functools.cache
def _greedy() -> sampling.Rows:
  return sampling.rows([sampling.Sampling()])


def pack(plan: Plan, shape: Shape, sizes: Sizes) -> Batch:
  """Writes a plan into arrays.

  Args:
    plan: that fits the shape.
    shape: of the step.
    sizes: of the engine.

  Returns:
    New arrays; draws are in the order of `slices`.
  """
  batch = empty(shape, sizes)
  draws = slices(plan, shape)
  for row, work in enumerate(plan.decodes):
    tokens = work.sequence.tokens
    known = work.start < len(tokens)
    batch.given[row, 0] = tokens[work.start] if known else -1
    batch.given[row, 1 : 1 + len(work.drafts)] = work.drafts
    batch.positions[row] = work.start
    batch.fresh[row] = work.start == work.sequence.first_drawn
    _fill_table(batch, row, work)
    _fill_draw(batch, row, next(draws), work)
  block = 0
  for index, work in enumerate(plan.pieces):
    block = _fill_piece(batch, block, work)
    place = next(draws)
    if work.draws:
      last = (work.end - work.start - 1) % sizes.block
      batch.ends[index] = (block - 1) * sizes.block + last
      _fill_draw(batch, shape.rows + index, place, work)
  return batch


def slices(plan: Plan, shape: Shape) -> Iterator[slice]:
  """Yields where the draws of a plan's works are.

  Args:
    plan: that fits the shape.
    shape: of the step.
  """
  for row, work in enumerate(plan.decodes):
    first = row * shape.length
    yield slice(first, first + 1 + len(work.drafts))
  first = shape.rows * shape.length
  for index, work in enumerate(plan.pieces):
    yield slice(first + index, first + index + work.draws)


def _fill_piece(batch: Batch, block: int, work: Work) -> int:
  """Writes a piece into blocks from `block` on; returns the next free one."""
  size = batch.pieces.shape[1]
  for start in range(work.start, work.end, size):
    part = work.sequence.tokens[start : min(start + size, work.end)]
    batch.pieces[block, : len(part)] = part
    batch.starts[block] = start
    _fill_table(batch, len(batch.given) + block, work)
    block += 1
  return block


def _fill_table(batch: Batch, row: int, work: Work) -> None:
  pages = work.sequence.pages
  batch.table[row, : len(pages)] = pages


def _fill_draw(batch: Batch, place: int, draws: slice, work: Work) -> None:
  batch.slots[place] = work.sequence.slot
  batch.wanted[place] = work.sequence.request.logprobs
  if work.masks is not None:
    batch.masks[draws] = work.masks
  for array, value in zip(batch.settings, work.sequence.row, strict=True):
    array[place] = value[0]
