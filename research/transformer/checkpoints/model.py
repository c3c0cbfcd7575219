"""A decoder with its weights, and filling one in tensor by tensor."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from research import mesh as mesh_lib
from research.transformer import config as config_lib
from research.transformer import decoder
from research.transformer.checkpoints import layout


class CheckpointError(ValueError):
  """A checkpoint cannot be used; the message says why in one line."""


@dataclasses.dataclass(frozen=True)
class Model:
  """A decoder split once into its definition and its weights.

  Attributes:
    config: what the decoder is.
    graphdef: static structure; hashable, for use in jitted closures.
    state: the weights, a pytree to pass as a jit argument.
  """

  config: config_lib.DecoderConfig
  graphdef: nnx.GraphDef
  state: Any

  def bind(self, state: Any) -> decoder.Decoder:
    """Returns the decoder over `state`; call it inside a jitted function."""
    return nnx.merge(self.graphdef, state)

  @property
  def num_bytes(self) -> int:
    """Bytes of the weights."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

  @property
  def bytes_per_step(self) -> int:
    """Bytes of weights that a decode step reads: all that it multiplies by.

    An embedding that is only looked up does not count.
    """
    table = 0 if self.config.tie_embeddings else self.state["embedding"][...]
    return self.num_bytes - getattr(table, "nbytes", 0)

  def shard(
    self, mesh: jax.sharding.Mesh, rules: mesh_lib.ShardingRules
  ) -> "Model":
    """Returns the model laid out on a mesh by the logical axes of its weights.

    Args:
      mesh: the devices.
      rules: from logical to mesh axes, e.g. `TENSOR_PARALLEL`.
    """
    place = lambda variable: variable.replace(
      jax.device_put(
        variable[...],
        rules.sharding(variable.get_metadata("axes"), variable.shape, mesh),
      )
    )
    is_variable = lambda x: isinstance(x, nnx.Variable)
    state = jax.tree.map(place, self.state, is_leaf=is_variable)
    return dataclasses.replace(self, state=state)


#: Heads, hidden units and vocabulary over (`node`, `local`).
TENSOR_PARALLEL = mesh_lib.ShardingRules(
  {name: ("node", "local") for name in ("heads", "kv_heads", "mlp", "vocab")}
)


def initialise(config: config_lib.DecoderConfig, seed: int) -> Model:
  """Returns a model with random weights.

  Args:
    config: what the decoder is.
    seed: of the weights.
  """
  rngs = nnx.Rngs(params=mesh_lib.key(seed, "init"))
  return Model(config, *nnx.split(decoder.Decoder(config, rngs)))


def fill(
  config: config_lib.DecoderConfig,
  names: Callable[[layout.Path], tuple[str, ...]],
  read: Callable[[str], np.ndarray],
) -> Model:
  """Builds a model from stored tensors, holding one parameter at a time.

  Args:
    config: what the decoder is.
    names: from a parameter's path to the stored tensors it is made of.
    read: returns a stored tensor by name.

  Returns:
    The model.

  Raises:
    CheckpointError: if a tensor's shape does not fit the configuration.
  """
  graphdef, state = decoder.abstract(config)
  flat = []
  for path, variable in parameters(state):
    shapes = layout.stored_shapes(path, variable.shape)
    parts = [
      _checked(name, read(name), shape)
      for name, shape in zip(names(path), shapes, strict=True)
    ]
    value = layout.join(path, parts, variable.shape)
    flat.append((path, variable.replace(jnp.asarray(value, variable.dtype))))
  return Model(config, graphdef, nnx.from_flat_state(flat))


def _checked(
  name: str, value: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
  if value.shape != shape:
    raise CheckpointError(
      f"tensor {name}: got shape {value.shape}, expected {shape}; the "
      "checkpoint's configuration and its weights disagree"
    )
  return value


def parameters(state: Any) -> Iterator[tuple[layout.Path, nnx.Variable]]:
  """Yields each parameter with its path, in a fixed order."""
  yield from nnx.to_flat_state(state)
