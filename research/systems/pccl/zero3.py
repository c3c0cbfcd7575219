"""ZeRO-3 training: parameters, gradients and optimizer state in parts.

A layer is gathered when the forward pass comes to it and again when the
backward pass does; autodiff turns each gather into a reduce-scatter of
gradients. Layers are a loop, so that no compiler can take the second gather for
the first and keep every layer in between, as XLA:CPU does where they are
written out.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

import collectives
from collectives import buckets, sharded
from research.systems.pccl import objective
from research.transformer import attention, layers, rope
from research.transformer import config as config_lib


class State(NamedTuple):
  """What the ranks hold together.

  Attributes:
    shards: of each unit its buckets' vectors, divided over ranks: of
      `embedding` and `head` `[n]`, of `blocks` `[layers, n]`.
    optimizer: the optimizer's state, divided likewise.
  """

  shards: Any
  optimizer: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Zero3:
  """Trains a decoder of which each rank keeps its part.

  Attributes:
    config: the decoder.
    optimizer: an optax transformation that treats each element by itself (SGD,
      Adam); norms of gradients would be those of a rank's part.
    mesh: devices.
    axes: mesh axes whose ranks share parameters and the rows of a batch, such
      as `("data",)` or `("node", "local")`.
    algorithm: of all-gathers and reduce-scatters.
    bucket_bytes: most bytes that go at once; by default one layer does.

  References:
    Rajbhandari et al., ZeRO, arXiv 1910.02054.
  """

  config: config_lib.DecoderConfig
  optimizer: optax.GradientTransformation
  mesh: jax.sharding.Mesh
  axes: tuple[str, ...]
  algorithm: str = "xla"
  bucket_bytes: int | None = None

  @functools.cached_property
  def plans(self) -> dict[str, buckets.Plan]:
    """The buckets of `embedding`, of each of the `blocks`, and of `head`."""
    shapes = jax.eval_shape(
      functools.partial(objective.parameters, self.config), jax.random.key(0)
    )
    blocks, ends = _split(shapes)
    return {
      name: buckets.plan(unit, max_bytes=self.bucket_bytes)
      for name, unit in {**ends, "blocks": blocks[0]}.items()
    }

  def init(self, params: dict) -> State:
    """Divides parameters over the ranks, and starts the optimizer there.

    Args:
      params: as `objective.parameters` returns them.
    """
    blocks, ends = _split(params)
    shards = {name: self._shard(name, unit) for name, unit in ends.items()}
    shards["blocks"] = self._stack(
      [self._shard("blocks", block) for block in blocks]
    )
    start = self._on_ranks(
      self.optimizer.init,
      (self._specs(shards),),
      self._specs(jax.eval_shape(self.optimizer.init, shards)),
    )
    return State(shards, start(shards))

  @functools.cached_property
  def step(self) -> jax.stages.Wrapped:
    """Jitted `(state, tokens) -> (state, loss)`.

    Tokens are `[b, s]`, `b` a multiple of the ranks; the loss is the mean over
    all rows, before the update.
    """
    shapes = jax.eval_shape(
      functools.partial(objective.parameters, self.config), jax.random.key(0)
    )
    state = self._specs(jax.eval_shape(self.init, shapes))
    rows = PartitionSpec(self.axes)
    return self._on_ranks(self._step, (state, rows), (state, PartitionSpec()))

  def params(self, state: State) -> dict[str, Any]:
    """Puts the parameters of a state together."""
    shards = dict(state.shards)
    rows = shards.pop("blocks")
    params = {}
    for name, vectors in shards.items():
      params |= sharded.unshard(vectors, self.plans[name])
    params["blocks"] = {
      layer: sharded.unshard([row[layer] for row in rows], self.plans["blocks"])
      for layer in range(self.config.num_layers)
    }
    return params

  def _shard(self, name: str, unit: dict) -> sharded.Shards:
    return sharded.shard(unit, self.plans[name], self.mesh, self.axes)

  def _stack(self, blocks: list[sharded.Shards]) -> sharded.Shards:
    where = NamedSharding(self.mesh, PartitionSpec(None, self.axes))
    stack = jax.jit(lambda *rows: jnp.stack(rows), out_shardings=where)
    return tuple(stack(*rows) for rows in zip(*blocks, strict=True))

  def _specs(self, state: Any) -> Any:
    """Vectors are divided; counters are the same everywhere."""

    def spec(leaf):
      whole = (None,) * (leaf.ndim - 1)
      return PartitionSpec(*whole, self.axes) if leaf.ndim else PartitionSpec()

    return jax.tree.map(spec, state)

  def _on_ranks(self, function: Callable, takes: Any, gives: Any):
    return jax.jit(
      jax.shard_map(function, mesh=self.mesh, in_specs=takes, out_specs=gives)
    )

  def _step(
    self, state: State, tokens: Int[Array, "b s"]
  ) -> tuple[State, Float[Array, ""]]:
    ranks = jax.lax.axis_size(self.axes)
    loss, gradients = jax.value_and_grad(
      lambda shards: self._loss(shards, tokens) / ranks
    )(state.shards)
    updates, optimizer = self.optimizer.update(
      gradients, state.optimizer, state.shards
    )
    shards = optax.apply_updates(state.shards, updates)
    scalar = objective.scalar_algorithm(self.algorithm)
    loss = collectives.all_reduce(loss, self.axes, algorithm=scalar)
    return State(shards, optimizer), loss

  def _loss(
    self, shards: dict[str, sharded.Shards], tokens: Int[Array, "b s"]
  ) -> Float[Array, ""]:
    table = self._gather("embedding", shards)["embedding"]
    x = table[tokens[:, :-1]]

    # The backward pass has the products, but neither weights nor their parts.
    @functools.partial(
      jax.checkpoint,
      policy=jax.checkpoint_policies.dots_saveable,
      prevent_cse=False,  # in a loop there is nothing to prevent
    )
    def layer(x, blocks):
      return self._block(self._gather("blocks", {"blocks": blocks}), x), None

    x, _ = jax.lax.scan(layer, x, shards["blocks"])
    config, last = self.config, self._gather("head", shards)
    norm = _module(
      lambda: layers.RMSNorm(config, config.embed_dim), last["norm"]
    )
    table = last.get("head", table)  # tied, the embedding is the head too
    logits = layers.multiply(table, norm(x)).astype(jnp.float32)
    return objective.cross_entropy(logits, tokens[:, 1:])

  def _gather(self, name: str, shards: dict[str, sharded.Shards]) -> dict:
    return sharded.gather(
      shards[name], self.plans[name], self.axes, algorithm=self.algorithm
    )

  def _block(
    self, params: dict, x: Float[Array, "b s e"]
  ) -> Float[Array, "b s e"]:
    config = self.config
    positions = jnp.broadcast_to(
      jnp.arange(x.shape[1], dtype=jnp.int32)[None], x.shape[:2]
    )
    rotation = rope.angles(
      positions,
      rope.inverse_frequencies(
        config.head_dim, config.rope_theta, config.rope_scaling
      ),
    )

    def attend(q, k, v):
      q, k = rope.rotate(q, *rotation), rope.rotate(k, *rotation)
      return attention.attend_causal(q, k, v)

    block = _module(lambda: layers.Block(config, nnx.Rngs(0)), params)
    return block(x, attend)


def _module(make: Callable, params: dict) -> Any:
  """Makes a module of parameters that are there, drawing none."""
  return nnx.merge(nnx.graphdef(nnx.eval_shape(make)), nnx.State(params))


def _split(params: dict) -> tuple[list[dict], dict[str, dict]]:
  """Cuts a decoder into blocks, and units before and after them."""
  after = {name: params[name] for name in ("norm", "head") if name in params}
  ends = {"embedding": {"embedding": params["embedding"]}, "head": after}
  blocks = params["blocks"]
  return [blocks[layer] for layer in sorted(blocks)], ends
