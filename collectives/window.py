"""The slots that a rank has at hand, read and written by tables.

A table says for every rank which rows it means, `[ranks, k]`, so that one
program serves all of them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@dataclasses.dataclass(frozen=True)
class Window:
  """A run of slots, and what has been written to it.

  Rows that were written in one go are read from what was written, and rows
  never written from the array as it came. Read from the updated array, they
  would make XLA copy all of it in every step.

  Attributes:
    rows: `[slots of the window, n]`, as they came.
    start: `[ranks]`, the window's first slot on every rank.
    me: number of this rank.
    writes: tables and rows written since, oldest first.
  """

  rows: jax.Array
  start: np.ndarray
  me: jax.Array
  writes: tuple[tuple[np.ndarray, jax.Array], ...] = ()

  def table(self, ranks: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Rows of slots for `ranks`; for the others the first rows, to no avail."""
    table = np.tile(np.arange(slots.shape[1]), (len(self.start), 1))
    table[ranks] = slots - self.start[ranks, None]
    return table

  def read(self, table: np.ndarray, ranks: np.ndarray) -> jax.Array:
    """Reads rows, `[k, n]`; on ranks not in `ranks` they may be any."""
    for where, values in reversed(self.writes):
      if _contains(where[ranks], table[ranks]):
        inside = np.zeros_like(table)
        inside[:] = np.arange(table.shape[1])
        inside[ranks] = table[ranks] - where[ranks, :1]
        return self._take(values, inside)
      if _meets(where[ranks], table[ranks]):
        return self._take(self.settle(), table)
    return self._take(self.rows, table)

  def write(self, table: np.ndarray, values: jax.Array) -> "Window":
    """Returns the window with rows replaced, on every rank."""
    kept = tuple(w for w in self.writes if not _contains(table, w[0]))
    return dataclasses.replace(self, writes=(*kept, (table, values)))

  def settle(self) -> jax.Array:
    """All rows, with what was written."""
    rows = self.rows
    for table, values in self.writes:
      if not _is_run(table):
        where = jnp.asarray(table, jnp.int32)[self.me]
        rows = rows.at[where].set(values, mode="promise_in_bounds")
      elif table.shape[1] == len(rows):
        rows = values
      else:
        start = self.mine(table[:, 0])
        rows = lax.dynamic_update_slice_in_dim(rows, values, start, 0)
    return rows

  def mine(self, entries: np.ndarray) -> jax.Array | int:
    """This rank's of one number for each rank."""
    if (entries == entries[0]).all():
      return int(entries[0])
    return jnp.asarray(entries, jnp.int32)[self.me]

  def _take(self, rows: jax.Array, table: np.ndarray) -> jax.Array:
    width = table.shape[1]
    if not _is_run(table):
      where = jnp.asarray(table, jnp.int32)[self.me]
      return rows.at[where].get(mode="promise_in_bounds")
    if width == len(rows):
      return rows
    return lax.dynamic_slice_in_dim(rows, self.mine(table[:, 0]), width)


def _is_run(table: np.ndarray) -> bool:
  return bool((np.diff(table) == 1).all())


def _contains(outer: np.ndarray, inner: np.ndarray) -> bool:
  """Whether the inner rows are among the outer ones in order, on every rank."""
  if not (_is_run(outer) and _is_run(inner)):
    return False
  first, last = outer[:, 0], outer[:, -1]
  return bool(((first <= inner[:, 0]) & (inner[:, -1] <= last)).all())


def _meets(one: np.ndarray, two: np.ndarray) -> bool:
  """Whether two sets of rows may share some, on any rank."""
  if not (_is_run(one) and _is_run(two)):
    return True
  return bool(((one[:, 0] <= two[:, -1]) & (two[:, 0] <= one[:, -1])).any())
