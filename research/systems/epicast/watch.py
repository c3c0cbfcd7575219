"""What some agents did in half a day, taken off the devices.

Each device packs the rows that are wanted into a buffer of fixed size. What
does not fit follows in further rounds and is counted: nothing is lost.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, UInt8

from research.systems.epicast import disease, engine, groups, minds
from research.systems.epicast.disease import Stage

_LEAST = 1 << 12  # rows of a buffer
_PART = 16  # and at most so many rounds


class Rows(NamedTuple):
  """Some agents in half a day, sorted by identity.

  Attributes:
    agent: identities.
    before: stage when it began.
    stage: stage at its end.
    fearful: who was fearful when it began.
    afraid: who is fearful at its end.
    why: reasons for what they did in it; see `behaviours`.
    media: susceptibility to broadcasters, in 1/64.
  """

  agent: np.ndarray
  before: np.ndarray
  stage: np.ndarray
  fearful: np.ndarray
  afraid: np.ndarray
  why: np.ndarray
  media: np.ndarray

  def take(self, which: np.ndarray) -> "Rows":
    """Those of a mask."""
    return Rows(*(column[which] for column in self))


class _Agents(NamedTuple):
  """Of one device, all that rows are made of."""

  identity: jax.Array
  household: jax.Array
  before: jax.Array
  stage: jax.Array
  timer: jax.Array
  course: jax.Array
  mind: jax.Array
  later: jax.Array
  media: jax.Array
  obeys: jax.Array


def changes(
  world: engine.World,
  before: engine.State,
  after: engine.State,
  capacity: int | None = None,
) -> tuple[Rows, int]:
  """Whose stage or fear changed in half a day.

  Args:
    world: that runs.
    before: state when it began.
    after: state at its end.
    capacity: rows of a device's buffer; by the number of agents if left out.

  Returns:
    Rows, and how many did not fit the buffers at first.
  """
  return _take(world, before, after, _changed, capacity)


def carriers(
  world: engine.World,
  before: engine.State,
  after: engine.State,
  *,
  frighten: bool,
  capacity: int | None = None,
) -> Rows:
  """Who could pass something on; arguments as `changes`.

  Args:
    world: that runs.
    before: state when the half-day began.
    after: state at its end.
    frighten: the fearful as well as the infectious.
    capacity: rows of a device's buffer.
  """
  wanted = _frightening if frighten else _infectious
  return _take(world, before, after, wanted, capacity)[0]


def _changed(rows: _Agents) -> Bool[Array, " n"]:
  flipped = (rows.mind ^ rows.later) & 1 == 1
  return (rows.before != rows.stage) | flipped


def _infectious(rows: _Agents) -> Bool[Array, " n"]:
  return (rows.stage >= Stage.P) & (rows.stage <= Stage.IA)


def _frightening(rows: _Agents) -> Bool[Array, " n"]:
  return _infectious(rows) | (rows.mind & 1 == 1)


def _take(world, before, after, wanted, capacity) -> tuple[Rows, int]:
  everybody = _everybody(world, before, after)
  shards = zip(*(_by_device(column) for column in everybody), strict=True)
  found, spilled = [], 0
  for part in shards:
    agents = _Agents(*part)
    size = capacity or max(_LEAST, -(-len(agents.stage) // _PART))
    first, number = 0, size + 1
    while number > size:
      packed = _buffer(agents, first, wanted=wanted, size=size)
      row, after_it, number = jax.device_get(packed)
      spilled += max(int(number) - size, 0) if first == 0 else 0
      found.append([column[: int(number)] for column in row])
      first = int(after_it)
  columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
  order = np.argsort(columns[0], kind="stable")
  *columns, household, obeys = (column[order] for column in columns)
  rows = Rows(columns[0].astype(np.int64), *columns[1:])
  if before.obeys is not None:
    rows.why[:] |= _ordered(world, before, household, obeys)
  return rows, spilled


def _everybody(world, before, after) -> _Agents:
  nothing = jnp.zeros_like(before.stage)
  of = lambda state, name: (
    nothing if state.minds is None else getattr(state.minds, name)
  )
  media = of(before, "media")
  return _Agents(
    identity=world.agents.identity,
    household=world.agents.household,
    before=before.stage,
    stage=after.stage,
    timer=after.timer,
    course=after.course,
    mind=of(before, "mind"),
    later=of(after, "mind"),
    media=nothing if media is None else media,
    obeys=nothing if before.obeys is None else before.obeys,
  )


def _by_device(column: jax.Array) -> list[jax.Array]:
  shards = sorted(column.addressable_shards, key=lambda one: one.device.id)
  return [shard.data for shard in shards]


def _ordered(world, state, household, obeys) -> UInt8[np.ndarray, " n"]:
  """The reason of an order to stay at home, of those who follow one."""
  rules = world.policies
  row = np.searchsorted(np.asarray(rules.since), int(state.day), "right") - 1
  share = np.asarray(rules.orders[row])[np.asarray(world.homes)[household]]
  last = world.tables.group.shape[1] // 2
  return (obeys < share).astype(np.uint8) * np.uint8(last)


@functools.partial(jax.jit, static_argnames=("wanted", "size"))
def _buffer(agents: _Agents, first, *, wanted, size: int):
  """Rows from a position on, where the next round begins, how many are left."""
  position = jnp.arange(len(agents.stage))
  left = wanted(agents) & (position >= first)
  spots = jnp.nonzero(left, size=size, fill_value=0)[0]
  row = _Agents(*(groups.get(column, spots) for column in agents))
  why = disease.withdrawn(row.stage, row.timer, row.course).astype(jnp.uint8)
  why |= minds.reasons(row.mind)
  packed = (
    row.identity,
    row.before,
    row.stage,
    minds.fearful(row.mind),
    minds.fearful(row.later),
    why,
    row.media,
    row.household,
    row.obeys,
  )
  return packed, spots[-1] + 1, left.sum()
