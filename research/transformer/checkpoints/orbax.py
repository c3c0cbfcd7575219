"""Decoders from and to orbax folders, laid out on whatever devices there are.

A folder remembers values, not layout: it may be written from one device and
read onto eight.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from flax import nnx

from research import mesh as mesh_lib
from research.transformer import config as config_lib
from research.transformer import decoder, rope
from research.transformer.checkpoints import layout, model

_SCALINGS: dict[str, Callable[..., rope.Scaling]] = {
  kind.__name__: kind for kind in (rope.Llama3Scaling, rope.DivisorScaling)
}


def save(weights: model.Model, folder: pathlib.Path) -> None:
  """Writes a model; the folder appears only once it is complete.

  Args:
    weights: the model, on any devices.
    folder: where; what is there already is replaced.
  """
  tree = {_name(p): v[...] for p, v in model.parameters(weights.state)}
  items = ocp.args.Composite(
    config=ocp.args.JsonSave(write_config(weights.config)),
    weights=ocp.args.StandardSave(tree),
  )
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    checkpointer.save(folder.absolute(), items, force=True)


def load(
  folder: pathlib.Path,
  *,
  mesh: jax.sharding.Mesh | None = None,
  rules: mesh_lib.ShardingRules | None = None,
) -> model.Model:
  """Reads a folder that `save` wrote, each device its own part of it.

  Args:
    folder: the folder.
    mesh: devices to lay the weights out on; the default device when omitted.
    rules: from logical to mesh axes; every weight whole when omitted.

  Returns:
    The model.

  Raises:
    CheckpointError: if the folder is missing, incomplete or corrupt.
  """
  config = read_config(_restore(folder, config=ocp.args.JsonRestore()).config)
  graphdef, state = decoder.abstract(config)
  flat = list(model.parameters(state))
  wanted = {_name(path): _place(value, mesh, rules) for path, value in flat}
  tree = _restore(folder, weights=ocp.args.StandardRestore(wanted)).weights
  filled = [(path, value.replace(tree[_name(path)])) for path, value in flat]
  return model.Model(config, graphdef, nnx.from_flat_state(filled))


def write_config(config: config_lib.DecoderConfig) -> dict[str, Any]:
  """Returns the configuration as JSON values, its scaling named by class."""
  values: dict[str, Any] = dataclasses.asdict(config)
  if config.rope_scaling is not None:
    values["rope_scaling"] |= {"kind": type(config.rope_scaling).__name__}
  return values


def read_config(values: dict[str, Any]) -> config_lib.DecoderConfig:
  """Reads what `write_config` returned.

  Args:
    values: the parsed JSON.

  Returns:
    The configuration.

  Raises:
    CheckpointError: if fields are missing or unknown.
  """
  try:
    scaling = _read_scaling(values["rope_scaling"])
    return config_lib.DecoderConfig(**(values | {"rope_scaling": scaling}))
  except (KeyError, TypeError, ValueError) as error:
    raise model.CheckpointError(
      f"the checkpoint's configuration is not a decoder's: got {error}, "
      "expected the fields of DecoderConfig; save the model again"
    ) from error


def _read_scaling(values: dict[str, Any] | None) -> rope.Scaling | None:
  if values is None:
    return None
  fields: dict[str, Any] = {  # JSON has no tuples
    name: tuple(field) if isinstance(field, list) else field
    for name, field in values.items()
    if name != "kind"
  }
  return _SCALINGS[values["kind"]](**fields)


def _restore(folder: pathlib.Path, **items: Any) -> Any:
  try:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
      return checkpointer.restore(
        folder.absolute(), ocp.args.Composite(**items)
      )
  except (FileNotFoundError, KeyError) as error:
    raise model.CheckpointError(
      f"{folder} holds no orbax checkpoint of a decoder; expected a folder "
      "that `orbax.save` wrote"
    ) from error
  except (ValueError, OSError) as error:  # tensorstore's are long
    reason = str(error).splitlines()[0].split(" [tensorstore_spec")[0]
    raise model.CheckpointError(
      f"{folder} is corrupt or incomplete: {reason[-200:]}; save it again"
    ) from error


def _place(
  variable: nnx.Variable,
  mesh: jax.sharding.Mesh | None,
  rules: mesh_lib.ShardingRules | None,
) -> jax.ShapeDtypeStruct:
  """Returns what is wanted of one weight: shape, dtype and layout."""
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  if mesh is not None:
    sharding = (rules or mesh_lib.ShardingRules({})).sharding(
      variable.get_metadata("axes"), variable.shape, mesh
    )
  return jax.ShapeDtypeStruct(variable.shape, variable.dtype, sharding=sharding)


def _name(path: layout.Path) -> str:
  return ".".join(map(str, path))
