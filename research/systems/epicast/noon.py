"""The state in the middle of a day, which a run itself does not keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import collectives
from research.systems.epicast import engine, minds, sharding


def said(world: engine.World, state: engine.State) -> np.ndarray | None:
  """What broadcasters say on the day that comes next, by county.

  Args:
    world: that runs.
    state: before the day.

  Returns:
    Hazards of a mean listener by half-day, in 2^-26 nats.
  """
  if world.fear is None or state.minds is None:
    return None
  heard, _ = _heard(world, state)
  return np.asarray(heard)


@jax.jit
def _heard(world, state):
  counties = world.policies.scale.shape[1]
  return minds.heard(world.fear, state.minds.logs, counties)


@functools.partial(jax.jit, static_argnames="mesh")
def after_day(
  world: engine.World, state: engine.State, *, mesh: Mesh | None = None
) -> engine.State:
  """The state at noon, after the first half of the day that comes next.

  Args:
    world: that runs.
    state: before the day.
    mesh: over which both are spread, if they are.
  """
  if mesh is None:
    return _half(world, state, lambda counts: counts)
  axes = mesh.axis_names
  specs = sharding.specs(axes, state)
  return jax.shard_map(
    functools.partial(
      _half, everywhere=lambda counts: collectives.all_reduce(counts, axes)
    ),
    mesh=mesh,
    in_specs=specs,
    out_specs=specs[1],
    check_vma=False,  # as in `sharding.run`
  )(world, state)


def _half(world, state, everywhere):
  heard = None
  if world.fear is not None and state.minds is not None:
    heard, _ = _heard(world, state)
  since = world.policies.since
  row = jnp.searchsorted(since, state.day, side="right") - 1
  return engine.half_day(world, row, 0, heard, state, None, everywhere)[0]
