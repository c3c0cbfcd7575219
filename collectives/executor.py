"""Runs a schedule on numpy arrays: the oracle, and a tool to study rounding."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Num

from collectives import schedule as sched


def execute(
  schedule: sched.Schedule,
  inputs: Num[np.ndarray, "ranks n"],
  *,
  op: Literal["sum", "max", "mean"] = "sum",
  accumulate: type[np.generic] | np.dtype | None = None,
) -> Num[np.ndarray, "ranks numbers"]:
  """Does what every rank would do, step by step.

  Messages and slots have the dtype of the inputs, so each reduction rounds to
  it. For bfloat16 pass an array of that dtype.

  Args:
    schedule: what to run.
    inputs: the vector of each rank; of any length, but a multiple of the ranks
      in a reduce-scatter.
    op: how an all-reduce or reduce-scatter combines.
    accumulate: dtype of messages and sums; by default that of the inputs. The
      result is in the dtype of the inputs again.

  Returns:
    The result of each rank.

  Raises:
    ValueError: an input that does not fit.

  Example:
    >>> from collectives import algorithms
    >>> ring = algorithms.find("ring", "all_reduce")
    >>> inputs = np.arange(6).reshape(3, 2)
    >>> execute(ring.schedule("all_reduce", sched.Grid(3)), inputs).tolist()
    [[6, 9], [6, 9], [6, 9]]
  """
  size = schedule.grid.size
  if len(inputs) != size:
    raise ValueError(f"inputs: got {len(inputs)} rows, expected {size} ranks")
  if schedule.collective == "reduce_scatter" and inputs.shape[1] % size:
    raise ValueError(
      f"inputs: got {inputs.shape[1]} columns, expected a multiple of {size}"
    )
  combine = np.maximum if op == "max" else np.add
  buffer = _pack(schedule, inputs.astype(accumulate or inputs.dtype))
  steps = schedule.steps
  for tick in schedule.timeline():
    for chunk, index in tick:
      _advance(buffer[:, chunk], steps[index], combine)
  result = _unpack(schedule, buffer, inputs.shape[1])
  if op == "mean" and schedule.collective != "all_gather":
    result = (result / size).astype(result.dtype)
  return result.astype(inputs.dtype)


def _advance(buffer: np.ndarray, step: sched.Step, combine: Callable) -> None:
  """Reads all messages of a step, then writes them; `[rank, slot, n]`."""
  moves = sched.permutations(step)
  read = [buffer[move.src[:, None], move.slots] for move in moves]
  for move, values in zip(moves, read, strict=True):
    where = move.dst[:, None], move.slots
    buffer[where] = combine(buffer[where], values) if move.reduce else values


def _pack(schedule: sched.Schedule, inputs: np.ndarray) -> np.ndarray:
  """Lays inputs out as `[rank, chunk, slot, n]`, with zeros at the end."""
  size, slots, chunks = schedule.grid.size, schedule.slots, schedule.chunks
  slot = [schedule.slot(rank) for rank in range(size)]
  if schedule.collective == "all_reduce":
    parts = _pad(inputs, chunks * slots)
    return parts.reshape(size, chunks, slots, -1)
  if schedule.collective == "all_gather":
    blocks = _pad(inputs, chunks).reshape(size, chunks, -1)
    buffer = np.zeros((size, chunks, slots, blocks.shape[-1]), inputs.dtype)
    buffer[np.arange(size), :, slot] = blocks
    return buffer
  blocks = _pad(inputs.reshape(size * size, -1), chunks)
  blocks = blocks.reshape(size, size, chunks, -1)  # [rank, block, chunk, n]
  return blocks[:, np.argsort(slot)].swapaxes(1, 2).copy()


def _unpack(
  schedule: sched.Schedule, buffer: np.ndarray, length: int
) -> np.ndarray:
  """Undoes `_pack`, for the result."""
  size = schedule.grid.size
  slot = [schedule.slot(rank) for rank in range(size)]
  if schedule.collective == "all_reduce":
    return buffer.reshape(size, -1)[:, :length]
  if schedule.collective == "all_gather":
    blocks = buffer[:, :, slot].swapaxes(1, 2).reshape(size, size, -1)
    return blocks[:, :, :length].reshape(size, -1)
  own = buffer[np.arange(size), :, slot].reshape(size, -1)
  return own[:, : length // size]


def _pad(rows: np.ndarray, multiple: int) -> np.ndarray:
  return np.pad(rows, ((0, 0), (0, -rows.shape[1] % multiple)))
