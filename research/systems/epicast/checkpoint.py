"""The state of a run on disk, whole or not at all, for any layout of agents.

Agents are stored by identity and without those that only fill arrays up, so a
run may go on with other padding, another order, or other devices.
"""

import hashlib
import pathlib
import re
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from research.runs import errors
from research.systems.epicast import engine
from research.systems.epicast.disease import Stage
from research.systems.epicast.scenario import identity

_FORMAT = 1  # raised when the same state is stored in another way
_NAME = re.compile(r"day-(\d+)")


class Stamp(NamedTuple):
  """What a checkpoint belongs to.

  Attributes:
    scenario: of `identity.describe`.
    replicate: which run of it.
  """

  scenario: dict[str, Any]
  replicate: int


def save(
  folder: pathlib.Path, world: engine.World, state: engine.State, stamp: Stamp
) -> pathlib.Path:
  """Writes a checkpoint, then removes older ones.

  Args:
    folder: of a replicate's checkpoints.
    world: that runs.
    state: what is kept.
    stamp: what it belongs to.

  Returns:
    The checkpoint's own folder, which appears only when it is complete.
  """
  path = folder.absolute() / f"day-{int(state.day):05d}"
  about = {
    "format": _FORMAT,
    "replicate": stamp.replicate,
    "scenario": stamp.scenario,
  }
  items = ocp.args.Composite(
    about=ocp.args.JsonSave(about),
    state=ocp.args.StandardSave(canonical(world, state)),
  )
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    checkpointer.save(path, items, force=True)
  for other in _all(folder):
    if other.name != path.name:
      shutil.rmtree(other)
  return path


def latest(folder: pathlib.Path) -> pathlib.Path | None:
  """The last complete checkpoint of a folder, if there is one."""
  return max(_all(folder), key=lambda path: path.name, default=None)


def load(
  path: pathlib.Path, world: engine.World, start: engine.State, stamp: Stamp
) -> engine.State:
  """Reads a checkpoint.

  Args:
    path: of `save` or `latest`.
    world: that will run; its agents may be laid out in another way.
    start: a state of that world, whose layout the result gets.
    stamp: what the checkpoint must belong to.

  Raises:
    UserError: it belongs to something else, or cannot be read.
  """
  about = _restore(path, about=ocp.args.JsonRestore()).about
  identity.require_same(about["scenario"], stamp.scenario, f"checkpoint {path}")
  for name, wanted in (("format", _FORMAT), ("replicate", stamp.replicate)):
    if about[name] != wanted:
      raise errors.UserError(
        f"checkpoint {path}: got {name} {about[name]}; expected {wanted}: "
        "choose another folder"
      )
  wanted = {
    name: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=_whole(leaf.sharding)
    )
    for name, leaf in canonical(world, start).items()
  }
  stored = _restore(path, state=ocp.args.StandardRestore(wanted)).state
  return _lay_out(world, start, stored)


def canonical(world: engine.World, state: engine.State) -> dict[str, jax.Array]:
  """A state's arrays by name, without anything of the layout of agents.

  Args:
    world: that runs.
    state: of it.
  """
  order = _order(world, state)
  arrays = {}
  for name, leaf in _leaves(state).items():
    if _of_agents(leaf, world):
      leaf = leaf[order]
    elif name == "tally":
      leaf = leaf.at[:, Stage.ABSENT].set(0)
    arrays[name] = leaf
  return arrays


def digest(world: engine.World, state: engine.State) -> str:
  """SHA-256 of a state, the same for any layout of agents."""
  found = hashlib.sha256()
  for name, leaf in canonical(world, state).items():
    array = np.asarray(leaf)
    found.update(f"{name} {array.dtype} {array.shape}".encode())
    found.update(np.ascontiguousarray(array).data)
  return found.hexdigest()


def _lay_out(
  world: engine.World, start: engine.State, stored: dict[str, jax.Array]
) -> engine.State:
  order = _order(world, start)
  leaves = []
  for name, leaf in _leaves(start).items():
    found = stored[name]
    if _of_agents(leaf, world):
      found = leaf.at[order].set(found)
    elif name == "tally":
      found = found.at[:, Stage.ABSENT].set(leaf[:, Stage.ABSENT])
    leaves.append(jax.device_put(found, leaf.sharding))
  return jax.tree.unflatten(jax.tree.structure(start), leaves)


def _order(world: engine.World, state: engine.State) -> jax.Array:
  """Where agents are, by identity; what fills up has the largest one."""
  people = int((np.asarray(state.stage) != Stage.ABSENT).sum())
  agents = np.asarray(world.agents.identity)
  return jnp.asarray(np.argsort(agents, kind="stable")[:people])


def _of_agents(leaf: jax.Array, world: engine.World) -> bool:
  return leaf.shape[:1] == world.agents.identity.shape


def _leaves(state: engine.State) -> dict[str, jax.Array]:
  return {
    jax.tree_util.keystr(path, simple=True, separator="."): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
  }


def _whole(sharding: jax.sharding.Sharding) -> jax.sharding.Sharding:
  """The same devices, each with all of an array."""
  if isinstance(sharding, jax.sharding.NamedSharding):
    whole = jax.sharding.PartitionSpec()
    return jax.sharding.NamedSharding(sharding.mesh, whole)
  return sharding


def _all(folder: pathlib.Path) -> list[pathlib.Path]:
  if not folder.is_dir():
    return []
  return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]


def _restore(path: pathlib.Path, **items: Any) -> Any:
  try:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
      return checkpointer.restore(path.absolute(), ocp.args.Composite(**items))
  except (OSError, KeyError, ValueError) as error:  # tensorstore's are long
    reason = (str(error).splitlines() or [""])[0][:120]
    raise errors.UserError(
      f"checkpoint {path}: got {reason!r}; expected one that is whole: remove "
      "the folder to start again"
    ) from error
