"""One epidemic on many devices: agents stay where they are, counts travel.

Every device has some of the agents and all of the groups. In each half-step it
adds up what its agents give to their groups, an all-reduce of whole numbers
adds up all devices' sums, and each looks the hazards of its own agents up. Sums
of whole numbers have no order, so trajectories do not depend on the devices.
"""

import functools
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import collectives
from research.systems.epicast import engine, minds


def place(
  world: engine.World, state: engine.State, mesh: Mesh
) -> tuple[engine.World, engine.State]:
  """Spreads agents over the devices of a mesh, and copies the rest to all.

  Args:
    world: of `engine.load`, with `multiple` a multiple of the devices.
    state: of `engine.start`, a checkpoint, or a run on other devices.
    mesh: the devices, of one process or many; all its axes count.

  Raises:
    ValueError: agents cannot be spread evenly.
  """
  agents = len(world.agents.age)
  if agents % mesh.size:
    raise ValueError(
      f"got {agents} agents for {mesh.size} devices, expected a multiple; pass "
      f"multiple={mesh.size} to engine.load"
    )

  def put(spec, part):
    return jax.device_put(part, NamedSharding(mesh, spec))

  wanted = specs(mesh.axis_names, state)
  return jax.tree.map(put, wanted[0], world), jax.tree.map(
    put, wanted[1], state
  )


@functools.partial(jax.jit, static_argnames=("days", "mesh", "algorithm"))
def run(
  world: engine.World,
  state: engine.State,
  *,
  days: int,
  mesh: Mesh,
  algorithm: str = "xla",
) -> tuple[engine.State, engine.Daily]:
  """Simulates some days, to the same state and counts as `engine.run`.

  Args:
    world: of `place`.
    state: of `place`, or of another run.
    days: how many.
    mesh: that of `place`.
    algorithm: of the all-reduces, by its name in `collectives`; two-level ones
      need a mesh of two axes, (node, local).

  Returns:
    The state, spread as before, and what is known of each day, on all devices.
  """
  axes = mesh.axis_names
  wanted = specs(axes, state)

  def everywhere(counts):
    return collectives.all_reduce(counts, axes, algorithm=algorithm)

  return jax.shard_map(
    functools.partial(engine.simulate, days=days, everywhere=everywhere),
    mesh=mesh,
    in_specs=wanted,
    out_specs=(wanted[1], P()),
    check_vma=False,  # loops begin with zeros, which do not vary, and go on
  )(world, state)


def reduced_bytes(world: engine.World) -> int:
  """Bytes that a day's all-reduces add up: of groups by half-day, and tallies.

  An all-reduce sends 2(p - 1)/p of them from each of p devices.
  """
  groups = sum(number * members for number, members in engine.words(world))
  counties, stages = world.policies.scale.shape[1], 8
  return 4 * (groups + 2 * counties * stages)


def specs(
  axes: tuple[str, ...], state: engine.State
) -> tuple[engine.World, engine.State]:
  """What is spread over the axes; prefixes of the two trees.

  Args:
    axes: of the mesh.
    state: whether it has fear.
  """
  spread: Any = P(axes)
  whole: Any = P()
  afraid = minds.Minds(key=whole, mind=spread, media=spread, logs=whole)
  return engine.World(
    agents=spread,
    places=whole,
    homes=whole,
    tables=whole,
    policies=whole,
    fear=whole,
  ), engine.State(
    day=whole,
    key=whole,
    stage=spread,
    timer=spread,
    course=spread,
    obeys=spread,
    minds=None if state.minds is None else afraid,
    tally=whole,
  )
