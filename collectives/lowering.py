"""A schedule as JAX operations: one `lax.ppermute` for each permutation.

Who reads and writes which slots is settled when the program is traced; at run
time a rank only looks its offsets up in constant tables.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from collectives import schedule as sched
from collectives.window import Window

Combine = Callable[[jax.Array, jax.Array], jax.Array]
Action = Callable[[Window], Window]


def run(
  schedule: sched.Schedule,
  x: jax.Array,
  axes: tuple[str, ...],
  combine: Combine,
  *,
  native: bool,
) -> jax.Array:
  """Runs a schedule on this rank's array, inside `shard_map`.

  Args:
    schedule: what to run, over the ranks of `axes` in row-major order.
    x: for an all-reduce any array, which is cut as a flat vector; for an
      all-gather the block of this rank; for a reduce-scatter all blocks,
      `[ranks, ...]`.
    axes: mesh axes; `(node, local)` if the grid of the schedule has nodes.
    combine: adds or otherwise joins what comes in.
    native: use `psum_scatter` and `all_gather` over the last axis for phases
      that allow it; only where `combine` adds.

  Returns:
    An array like `x`, all blocks `[ranks, ...]`, or the block of this rank.
  """
  ranks = _Ranks(schedule, axes, combine)
  plan = _plan(ranks, native)
  chunks = _pack(ranks, x, native)
  for tick in schedule.timeline():
    for chunk, index in tick:
      for action in plan[index]:
        chunks[chunk] = action(chunks[chunk])
  return _unpack(ranks, chunks, x)


def _plan(ranks: "_Ranks", native: bool) -> list[list[Action]]:
  """What to do at each step; a native phase is done at its first.

  Between the local phases a rank has only its own run of slots at hand.
  """
  schedule = ranks.schedule
  turn, total = _turn(schedule)
  vendor = {"reduce_scatter": ranks.scatter, "all_gather": ranks.gather}
  plan: list[list[Action]] = []
  for phase in schedule.phases:
    first = len(plan)
    if native and phase.native:
      plan.append([vendor[phase.native]])
      plan.extend([] for _ in phase.steps[1:])
      continue
    for step in phase.steps:
      moves = sched.permutations(step)
      plan.append([functools.partial(ranks.advance, moves=moves)])
    if turn is not None and first <= turn < len(plan):
      keep = functools.partial(ranks.only, slots=total, whole=not native)
      plan[turn].insert(0, keep)
    elif phase.native == "all_gather" and turn is None:
      keep = functools.partial(ranks.only, slots=ranks.run(), whole=True)
      plan[first].insert(0, keep)
    if phase.native == "reduce_scatter":
      plan[-1].append(ranks.narrow)
  return plan


def _turn(schedule: sched.Schedule) -> tuple[int | None, np.ndarray]:
  """Where an all-reduce turns from reducing to copying, if at half of it.

  Returns:
    The first step from which on all messages are copies, None if there is no
    such step or most slots are then still needed; and the slots which no later
    message overwrites, `[ranks, k]`: what each rank has reduced for all.
  """
  none = None, np.zeros((0, 0), int)
  reduces = [any(t.action == "reduce" for t in step) for step in schedule.steps]
  if schedule.collective != "all_reduce" or not any(reduces):
    return none
  turn = len(reduces) - reduces[::-1].index(True)
  left = [set(range(schedule.slots)) for _ in range(schedule.grid.size)]
  for step in schedule.steps[turn:]:
    for transfer in step:
      left[transfer.dst] -= set(transfer.slots)
  widths = {len(slots) for slots in left if slots}
  if len(widths) != 1 or 2 * max(widths) > schedule.slots:
    return none
  some = list(range(max(widths)))  # of ranks that are sent everything
  return turn, np.array([sorted(slots) or some for slots in left])


class _Ranks:
  """This rank among the others."""

  def __init__(
    self, schedule: sched.Schedule, axes: tuple[str, ...], combine: Combine
  ):
    self.schedule = schedule
    self.size, self.local = schedule.grid.size, schedule.grid.local
    self.slots = np.array([schedule.slot(r) for r in range(self.size)])
    self.axes, self._combine = axes, combine
    self._place = np.arange(self.size) % self.local
    self._me = lax.axis_index(axes)
    # `ppermute` counts ranks in the order of the mesh, whatever that of `axes`.
    mesh_axes = jax.sharding.get_abstract_mesh().axis_names
    order = sorted(range(len(axes)), key=lambda i: mesh_axes.index(axes[i]))
    shape = [lax.axis_size(axes[i]) for i in order]
    wire = np.arange(self.size).reshape(shape)
    self._wire = wire.transpose(np.argsort(order)).reshape(-1)

  def window(self, rows: jax.Array, start: np.ndarray) -> Window:
    """Rows of which the first is slot `start` on each rank."""
    return Window(rows, start, self._me)

  def scatter(self, window: Window) -> Window:
    """The vendor's reduce-scatter within nodes."""
    rows = lax.psum_scatter(window.settle(), self.axes[-1], tiled=True)
    return self.window(rows, window.start + self._place * len(rows))

  def gather(self, window: Window) -> Window:
    """The vendor's all-gather within nodes."""
    rows = window.settle()
    start = window.start - self._place * len(rows)
    rows = _as_bits(
      lambda bits: lax.all_gather(bits, self.axes[-1], tiled=True), rows
    )
    return self.window(rows, start)

  def run(self) -> np.ndarray:
    """The slots that a local reduce-scatter leaves to each rank."""
    width = self.schedule.slots // self.local
    return self._place[:, None] * width + np.arange(width)

  def narrow(self, window: Window) -> Window:
    """Leaves the slots of `run`."""
    run = self.run()
    everyone = np.arange(self.size)
    rows = window.read(window.table(everyone, run), everyone)
    return self.window(rows, run[:, 0])

  def only(self, window: Window, slots: np.ndarray, whole: bool) -> Window:
    """Zeros but for some slots of every rank, in a window of all slots or not.

    What else was written need then not be kept up.
    """
    everyone = np.arange(self.size)
    values = window.read(window.table(everyone, slots), everyone)
    start, size = window.start, len(window.rows)
    if whole:
      start, size = np.zeros_like(start), self.schedule.slots
    zeros = jnp.zeros((size, values.shape[1]), values.dtype)
    fresh = self.window(zeros, start)
    return fresh.write(fresh.table(everyone, slots), values)

  def advance(
    self, window: Window, moves: Sequence[sched.Permutation]
  ) -> Window:
    """Reads all messages of a step, then writes them."""
    came = [self._send(window, move) for move in moves]
    for move, values in zip(moves, came, strict=True):
      window = self._receive(window, move, values)
    return window

  def _send(self, window: Window, move: sched.Permutation) -> jax.Array:
    src, dst = self._wire[move.src], self._wire[move.dst]
    pairs = list(zip(src.tolist(), dst.tolist(), strict=True))
    return _as_bits(
      lambda bits: lax.ppermute(bits, self.axes, pairs),
      window.read(window.table(move.src, move.slots), move.src),
    )

  def _receive(
    self, window: Window, move: sched.Permutation, values: jax.Array
  ) -> Window:
    table = window.table(move.dst, move.slots)
    everyone = np.arange(self.size)
    if move.reduce or len(move.dst) < self.size:
      old = window.read(table, everyone)
      values = self._combine(old, values) if move.reduce else values
      if len(move.dst) < self.size:
        takes_part = window.mine(np.isin(everyone, move.dst).astype(int))
        values = jnp.where(takes_part == 1, values, old)
    return window.write(table, values)


def _pack(ranks: _Ranks, x: jax.Array, native: bool) -> list[Window]:
  """Lays out each chunk's window, and says where it starts on every rank."""
  schedule = ranks.schedule
  whole = np.zeros(ranks.size, int)
  if schedule.collective == "all_reduce":
    scattered = native and schedule.phases[0].native
    x = x if scattered or not _exchanges(schedule) else _pin(x, ranks.axes)
    flat = _pad(x.reshape(1, -1), schedule.chunks * schedule.slots)
    parts = flat.reshape(schedule.chunks, schedule.slots, -1)
    return [ranks.window(rows, whole) for rows in parts]
  if schedule.collective == "reduce_scatter":
    blocks = _pad(x.reshape(ranks.size, -1), schedule.chunks)
    if schedule.shuffled:
      grid = blocks.reshape(*schedule.grid, -1)
      blocks = grid.swapaxes(0, 1).reshape(blocks.shape)
    parts = blocks.reshape(ranks.size, schedule.chunks, -1)
    return [ranks.window(parts[:, i], whole) for i in range(schedule.chunks)]
  # An all-gather that ends within nodes has only its own run until then.
  width = schedule.slots
  if any(phase.native for phase in schedule.phases):
    width //= ranks.local
  start = ranks.slots // width * width
  parts = _pad(x.reshape(1, -1), schedule.chunks).reshape(
    schedule.chunks, 1, -1
  )
  table = (ranks.slots - start)[:, None]
  zeros = jnp.zeros((width, parts.shape[-1]), x.dtype)
  return [ranks.window(zeros, start).write(table, part) for part in parts]


def _exchanges(schedule: sched.Schedule) -> bool:
  """Whether ranks add what they send each other: one sum, on two ranks."""
  return any(
    transfer.action == "reduce"
    and transfer._replace(src=transfer.dst, dst=transfer.src) in step
    for step in map(frozenset, schedule.steps)
    for transfer in step
  )


def _pin(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
  """Has a rank add the numbers that it sends, to the last bit.

  XLA would compute them twice, and the second time without rounding a product
  before it is added. XLA:CPU drops `optimization_barrier` before that, but does
  not look into a branch.
  """
  if not jnp.issubdtype(x.dtype, jnp.inexact):
    return x
  always = lax.axis_index(axes) >= 0
  return lax.platform_dependent(
    x,
    cpu=lambda x: lax.cond(always, lambda: x, lambda: jnp.zeros_like(x)),
    default=lax.optimization_barrier,
  )


def _as_bits(move: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
  """Moves short floats as integers: XLA:CPU would send them as float32."""
  if not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype.itemsize >= 4:
    return move(x)
  bits = jnp.dtype(f"uint{jnp.finfo(x.dtype).bits}")
  moved = move(lax.bitcast_convert_type(x, bits))
  return lax.bitcast_convert_type(moved, x.dtype)


def _unpack(ranks: _Ranks, chunks: list[Window], x: jax.Array) -> jax.Array:
  """Undoes `_pack`, for the result."""
  schedule = ranks.schedule
  if schedule.collective == "all_reduce":
    flat = _join([chunk.settle() for chunk in chunks], 0).reshape(-1)
    return flat[: x.size].reshape(x.shape)
  if schedule.collective == "reduce_scatter":
    everyone = np.arange(ranks.size)
    table = chunks[0].table(everyone, ranks.slots[:, None])
    own = _join([chunk.read(table, everyone) for chunk in chunks], 1)
    return own[0, : x.size // ranks.size].reshape(x.shape[1:])
  blocks = _join([chunk.settle() for chunk in chunks], 1)[:, : x.size]
  if schedule.shuffled:
    nodes, local = schedule.grid
    blocks = blocks.reshape(local, nodes, -1).swapaxes(0, 1)
  return blocks.reshape(ranks.size, *x.shape)


def _join(parts: list[jax.Array], axis: int) -> jax.Array:
  return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis)


def _pad(rows: jax.Array, multiple: int) -> jax.Array:
  missing = -rows.shape[1] % multiple
  return jnp.pad(rows, ((0, 0), (0, missing))) if missing else rows
