"""Data-parallel training: everything on every rank, gradients in buckets."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import optax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

import collectives
from collectives import buckets
from research.systems.pccl import objective
from research.transformer import config as config_lib


class State(NamedTuple):
  """Parameters and the optimizer's state, the same on all ranks."""

  params: Any
  optimizer: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataParallel:
  """Trains a decoder with a copy of it on each rank.

  Attributes:
    config: the decoder.
    optimizer: any optax transformation.
    mesh: devices.
    axes: mesh axes whose ranks share the rows of a batch, such as `("data",)`
      or `("node", "local")`.
    algorithm: of the all-reduce of each bucket.
    bucket_bytes: most bytes of a bucket.

  References:
    Li et al., PyTorch Distributed, arXiv 2006.15704.
  """

  config: config_lib.DecoderConfig
  optimizer: optax.GradientTransformation
  mesh: jax.sharding.Mesh
  axes: tuple[str, ...]
  algorithm: str = "xla"
  bucket_bytes: int = 25 << 20

  @functools.cached_property
  def plan(self) -> buckets.Plan:
    """The gradients' buckets, last layers first."""
    shapes = jax.eval_shape(
      functools.partial(objective.parameters, self.config), jax.random.key(0)
    )
    return buckets.plan(
      shapes,
      max_bytes=self.bucket_bytes,
      first_use=functools.partial(first_use, self.config.num_layers),
    )

  def init(self, params: dict) -> State:
    """Copies parameters to every rank, and starts the optimizer.

    Args:
      params: as `objective.parameters` returns them.
    """
    state = State(params, self.optimizer.init(params))
    return jax.device_put(state, NamedSharding(self.mesh, PartitionSpec()))

  @functools.cached_property
  def step(self) -> jax.stages.Wrapped:
    """Jitted `(state, tokens) -> (state, loss)`.

    Tokens are `[b, s]`, `b` a multiple of the ranks; the loss is the mean over
    all rows, before the update.
    """
    same = PartitionSpec()
    return jax.jit(
      jax.shard_map(
        self._step,
        mesh=self.mesh,
        in_specs=(same, PartitionSpec(self.axes)),
        out_specs=(same, same),
      )
    )

  def params(self, state: State) -> dict:
    """Returns the parameters of a state."""
    return state.params

  def _step(
    self, state: State, tokens: Int[Array, "b s"]
  ) -> tuple[State, Float[Array, ""]]:
    own = lax.pcast(state.params, self.axes, to="varying")
    loss, gradients = jax.value_and_grad(
      functools.partial(objective.loss, self.config)
    )(own, tokens)
    gradients = buckets.reduce_gradients(
      gradients, self.axes, self.plan, algorithm=self.algorithm
    )
    updates, optimizer = self.optimizer.update(
      gradients, state.optimizer, state.params
    )
    params = optax.apply_updates(state.params, updates)
    scalar = objective.scalar_algorithm(self.algorithm)
    loss = collectives.all_reduce(loss, self.axes, op="mean", algorithm=scalar)
    return State(params, optimizer), loss


def first_use(num_layers: int, path: str) -> int:
  """When the forward pass comes to a parameter of `decoder.Decoder`.

  Args:
    num_layers: of the decoder.
    path: such as `"blocks/1/mlp/down"`.

  Returns:
    The place of its module: embedding, blocks, norm, head.

  Example:
    >>> paths = "head", "blocks/10/mlp/down", "blocks/9/mlp/down", "embedding"
    >>> [first_use(12, path) for path in paths]
    [14, 11, 10, 0]
  """
  module, _, rest = path.partition("/")
  if module == "blocks":
    return 1 + int(rest.partition("/")[0])
  return {"embedding": 0, "norm": 1 + num_layers, "head": 2 + num_layers}[
    module
  ]
