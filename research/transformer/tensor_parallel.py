"""A decoder's matrices cut over ranks, and what the ranks then exchange."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

import collectives
from research import mesh as mesh_lib
from research.transformer import config as config_lib
from research.transformer import decoder
from research.transformer.checkpoints import model as model_lib


class PartitionError(ValueError):
  """A decoder cannot be cut over so many ranks; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorParallel:
  r"""Matrices cut over the ranks of mesh axes, inside `shard_map`.

  Projections into heads and hidden units are cut by their outputs, those out of
  them by their inputs, so that a layer adds up twice,

  $$y = \sum_r W^{\mathrm{out}}_r\, f(W^{\mathrm{in}}_r x).$$

  Attention is cut by key-value heads where ranks divide them. Otherwise each
  rank has a part of every head, with both halves of its rotary pairs, and the
  scores are added up too,

  $$q k^\top / \sqrt d = \sum_r q_r k_r^\top / \sqrt d.$$

  Attributes:
    axes: mesh axes whose ranks share the weights, such as `("node", "local")`.
    ranks: how many they are.
    attention: what the ranks divide: `"heads"`, or `"head_dim"` of every head.
    vocabulary: whether embedding and logits are divided as well.
    algorithm: of the all-reduce, as `collectives.all_reduce` takes it.

  References:
    Shoeybi et al., Megatron-LM, arXiv 1909.08053, section 3.
  """

  axes: tuple[str, ...]
  ranks: int
  attention: Literal["heads", "head_dim"]
  vocabulary: bool
  algorithm: str = "xla"

  @property
  def rules(self) -> mesh_lib.ShardingRules:
    """From the logical axes of weights and pool to those of the mesh."""
    heads = {"heads": ("kv_heads", "heads"), "head_dim": ("head_dim",)}
    vocabulary = ("vocab",) if self.vocabulary else ()
    names = ("mlp", *heads[self.attention], *vocabulary)
    stages = {"stage": ("pipe",), "page": ("pipe",)}
    return mesh_lib.ShardingRules(dict.fromkeys(names, self.axes) | stages)

  @property
  def whole_heads(self) -> bool:
    """See `Partition`."""
    return self.attention == "heads"

  def total(self, x):
    """See `Partition`."""
    with jax.named_scope("all_reduce"):
      return collectives.all_reduce(x, self.axes, algorithm=self.algorithm)

  def total_scores(self, x):
    """See `Partition`; callers divide by the root of a part's width."""
    if self.whole_heads:
      return x
    return self.total(x) / math.sqrt(self.ranks)

  def mean_square(self, x):
    """See `Partition`."""
    own = jnp.mean(x * x, axis=-1, keepdims=True)
    return own if self.whole_heads else self.total(own) / self.ranks

  def look_up(self, table, tokens):
    """See `Partition`."""
    if not self.vocabulary:
      return table[tokens]
    own = tokens - jax.lax.axis_index(self.axes) * table.shape[0]
    here = (own >= 0) & (own < table.shape[0])
    rows = table[jnp.clip(own, 0, table.shape[0] - 1)]
    return self.total(jnp.where(here[..., None], rows, 0))

  def join_logits(self, x):
    """See `Partition`."""
    if not self.vocabulary:
      return x
    with jax.named_scope("all_gather"):
      return collectives.all_gather(x, self.axes, axis=-1, tiled=True)

  def frequencies(self, inverse):
    """See `Partition`."""
    if self.whole_heads:
      return inverse
    parts = jnp.asarray(inverse, jnp.float32).reshape(self.ranks, -1)
    return parts[jax.lax.axis_index(self.axes)]


def partition_of(
  config: config_lib.DecoderConfig,
  axes: tuple[str, ...],
  ranks: int,
  algorithm: str = "xla",
) -> TensorParallel:
  """Chooses what so many ranks divide: heads, or else a part of every head.

  Args:
    config: the decoder.
    axes: mesh axes whose ranks share the weights.
    ranks: how many they are.
    algorithm: of the all-reduces.

  Raises:
    PartitionError: if the ranks divide neither key-value heads nor rotary
      pairs, or not the hidden units.

  Example:
    >>> config = config_lib.DecoderConfig(
    ...   vocab_size=16, embed_dim=8, num_layers=1, num_heads=9,
    ...   num_kv_heads=3, head_dim=64, mlp_dim=48, context_length=32)
    >>> [partition_of(config, ("local",), n).attention for n in (2, 3, 4, 8)]
    ['head_dim', 'heads', 'head_dim', 'head_dim']
  """
  if config.mlp_dim % ranks:
    raise PartitionError(
      f"tensor parallelism: got {ranks} ranks for {config.mlp_dim} hidden "
      "units, expected a divisor; change the mesh"
    )
  heads = config.num_kv_heads % ranks == 0
  if not heads and config.head_dim // 2 % ranks:
    raise PartitionError(
      f"tensor parallelism: got {ranks} ranks, expected a divisor of "
      f"{config.num_kv_heads} key-value heads or of {config.head_dim // 2} "
      "rotary pairs; change the mesh"
    )
  return TensorParallel(
    axes=axes,
    ranks=ranks,
    attention="heads" if heads else "head_dim",
    vocabulary=config.vocab_size % ranks == 0,
    algorithm=algorithm,
  )


def split(
  model: model_lib.Model,
  mesh: Mesh,
  *,
  axes: tuple[str, ...] = ("node", "local"),
  algorithm: str = "xla",
) -> model_lib.Model:
  """Lays a model out on a mesh, each rank with its part of every matrix.

  Args:
    model: the whole model.
    mesh: the devices; its other axes hold copies.
    axes: mesh axes whose ranks share the weights.
    algorithm: of the all-reduces, as `collectives.all_reduce` takes it.

  Returns:
    The model to `bind` inside `shard_map`, with its weights divided by `specs`.

  Raises:
    PartitionError: if the ranks divide neither key-value heads nor rotary
      pairs, or not the hidden units.
  """
  ranks = math.prod(mesh.shape[axis] for axis in axes)
  partition = partition_of(model.config, axes, ranks, algorithm)
  graphdef, _ = decoder.abstract(model.config, partition)
  state = model.state
  if partition.attention == "head_dim":
    state = _order_pairs(state, ranks)
  whole = dataclasses.replace(model, graphdef=graphdef, state=state)
  return whole.shard(mesh, partition.rules)


def specs(model: model_lib.Model) -> Any:
  """Returns the partition of each weight, for `shard_map`."""
  return jax.tree.map(lambda leaf: leaf.sharding.spec, model.state)


def _order_pairs(state: Any, ranks: int) -> Any:
  """Puts both halves of each rank's rotary pairs side by side."""

  def order(variable: nnx.Variable) -> nnx.Variable:
    names = variable.get_metadata("axes")
    if "head_dim" not in names:
      return variable
    axis = names.index("head_dim")
    pairs = np.arange(variable.shape[axis]).reshape(2, ranks, -1)
    where = pairs.transpose(1, 0, 2).ravel()
    return variable.replace(jnp.take(variable[...], where, axis=axis))

  is_variable = lambda x: isinstance(x, nnx.Variable)
  return jax.tree.map(order, state, is_leaf=is_variable)
