"""A plan as arrays of one of the compiled shapes."""

import functools
from typing import NamedTuple

import numpy as np

from research.inference import sampling
from research.inference.scheduler import Plan, Work


class Shape(NamedTuple):
  """What a compiled step has room for.

  Attributes:
    rows: sequences that decode.
    blocks: blocks of pieces.
  """

  rows: int
  blocks: int


class Sizes(NamedTuple):
  """What is the same in all of an engine's shapes.

  Attributes:
    block: tokens in a block.
    pages: pages a sequence holds at most.
    num_pages: pages of the pool.
    slots: sequences that run at once at most.
  """

  block: int
  pages: int
  num_pages: int
  slots: int


class Batch(NamedTuple):
  """One step's arrays; a row or block of nobody writes and answers nothing.

  A row answers for a decoding sequence, and one more (`draws = rows + blocks`)
  for each piece of a prompt.

  Attributes:
    given: token of each decoding row, `[rows]`; -1 takes the one that the
      device drew last for its slot.
    positions: of the decoding tokens, `[rows]`.
    pieces: tokens of each block, `[blocks, block]`.
    starts: position of each block's first token, `[blocks]`.
    table: page number of each row's and then each block's i-th page,
      `[draws, pages]`.
    ends: index of the token from which each answer comes, in the flat batch of
      rows and then blocks, `[draws]`.
    slots: where to keep each answer, `[draws]`; one past the last for nowhere.
    settings: how to draw each answer.
    wanted: whether its log-probability is, `[draws]`.
  """

  given: sampling.HostArray
  positions: sampling.HostArray
  pieces: sampling.HostArray
  starts: sampling.HostArray
  table: sampling.HostArray
  ends: sampling.HostArray
  slots: sampling.HostArray
  settings: sampling.Rows
  wanted: sampling.HostArray


def empty(shape: Shape, sizes: Sizes) -> Batch:
  """Returns a batch of nobody.

  Args:
    shape: of the step.
    sizes: of the engine.
  """
  rows, blocks = shape
  draws = rows + blocks
  return Batch(
    given=np.zeros(rows, np.int32),
    positions=np.zeros(rows, np.int32),
    pieces=np.zeros((blocks, sizes.block), np.int32),
    starts=np.zeros(blocks, np.int32),
    table=np.full((draws, sizes.pages), sizes.num_pages, np.int32),
    ends=np.zeros(draws, np.int32),
    slots=np.full(draws, sizes.slots, np.int32),
    settings=sampling.Rows(*(np.repeat(x, draws, axis=0) for x in _greedy())),
    wanted=np.zeros(draws, bool),
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
    New arrays; the answer to a plan's i-th decode is in row i, and that to its
    i-th piece in row `shape.rows + i`.
  """
  batch = empty(shape, sizes)
  for row, work in enumerate(plan.decodes):
    tokens = work.sequence.tokens
    known = work.start < len(tokens)
    batch.given[row] = tokens[work.start] if known else -1
    batch.positions[row] = work.start
    _fill_table(batch, row, work)
    _fill_answer(batch, row, row, work)
  block = 0
  for index, work in enumerate(plan.pieces):
    block = _fill_piece(batch, block, work)
    if work.draws:
      last = (work.end - work.start - 1) % sizes.block
      end = shape.rows + (block - 1) * sizes.block + last
      _fill_answer(batch, shape.rows + index, end, work)
  return batch


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


def _fill_answer(batch: Batch, row: int, end: int, work: Work) -> None:
  batch.ends[row] = end
  batch.slots[row] = work.sequence.slot
  batch.wanted[row] = work.sequence.request.logprobs
  for array, value in zip(batch.settings, work.sequence.row, strict=True):
    array[row] = value[0]
