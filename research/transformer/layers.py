"""The parts of a decoder block, each parameter with its logical axes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from research.transformer import config as config_lib
from research.transformer import partition as partition_lib

Config = config_lib.DecoderConfig
Partition = partition_lib.Partition
_WHOLE = partition_lib.Whole()


def kernel(
  rngs: nnx.Rngs, config: Config, shape: tuple[int, ...], axes: tuple[str, ...]
) -> nnx.Param:
  """A random weight of standard deviation 0.02, with its logical axes."""
  init = jax.random.normal(rngs.params(), shape, config.dtype)
  return nnx.Param(init * 0.02, axes=axes)


def constant(
  value: float, config: Config, shape: tuple[int, ...], axes: tuple[str, ...]
) -> nnx.Param:
  """A weight whose elements all start at one value."""
  return nnx.Param(jnp.full(shape, value, config.dtype), axes=axes)


_FEW_ROWS = 32  # below, XLA's CPU backend is faster with the weight on the left


def multiply(
  weight: Float[Array, "out in"], x: Float[Array, "b s in"]
) -> Float[Array, "b s out"]:
  """Multiplies every token by a matrix stored as checkpoints store it.

  A weight on the left is streamed once for a few tokens, where one on the right
  would first be packed; for many tokens, transposing the result costs more.

  Args:
    weight: `[out, in]`.
    x: one vector a token.

  Returns:
    One vector a token.
  """
  rows = x.reshape(-1, x.shape[-1])
  inner = (((1,), (1,)), ((), ()))
  if len(rows) <= _FEW_ROWS:
    out = jax.lax.dot_general(weight, rows, inner).T
  else:
    out = jax.lax.dot_general(rows, weight, inner)
  return out.reshape(*x.shape[:-1], weight.shape[0])


class RMSNorm(nnx.Module):
  r"""Root-mean-square norm, $x_i g_i / \sqrt{\mathrm{mean}(x^2) + \epsilon}$.

  References:
    Zhang and Sennrich, arXiv 1910.07467, equation 4.
  """

  def __init__(
    self,
    config: Config,
    size: int,
    axis: str = "embed",
    partition: Partition = _WHOLE,
  ):
    self.scale = constant(1.0, config, (size,), (axis,))
    self.epsilon = config.norm_eps
    self.partition = partition

  def __call__(self, x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Norms the last axis in float32."""
    wide = x.astype(jnp.float32)
    power = self.partition.mean_square(wide)
    normed = (wide * jax.lax.rsqrt(power + self.epsilon)).astype(x.dtype)
    scale = self.scale[...].reshape((1,) * (x.ndim - 1) + (-1,))
    return normed * scale


class SelfAttention(nnx.Module):
  """Projections around attention; the attention itself is the caller's.

  Attributes:
    qkv: for each key-value head its queries' weights, then its key's and its
      value's: `[kv_head, group + 2, head_dim, embed]`.
  """

  def __init__(
    self, config: Config, rngs: nnx.Rngs, partition: Partition = _WHOLE
  ):
    groups = config.num_heads // config.num_kv_heads
    shape = (config.num_kv_heads, groups + 2, config.head_dim)
    self.qkv = GroupedProjection(config, shape, rngs)
    out = (config.embed_dim, config.num_heads, config.head_dim)
    self.out = kernel(rngs, config, out, ("embed", "heads", "head_dim"))
    norm = lambda: RMSNorm(config, config.head_dim, "head_dim", partition)
    self.q_norm = norm() if config.qk_norm else None
    self.k_norm = norm() if config.qk_norm else None
    self.partition = partition

  def project(
    self, x: Float[Array, "b s e"]
  ) -> tuple[
    Float[Array, "b s h d"], Float[Array, "b s k d"], Float[Array, "b s k d"]
  ]:
    """Returns queries, keys (both before rotation) and values."""
    heads = self.qkv(x)
    q, k, v = heads[..., :-2, :], heads[..., -2, :], heads[..., -1, :]
    q = q.reshape(*x.shape[:2], -1, q.shape[-1])
    q = q if self.q_norm is None else self.q_norm(q)
    k = k if self.k_norm is None else self.k_norm(k)
    return q, k, v

  def merge(self, heads: Float[Array, "b s h d"]) -> Float[Array, "b s e"]:
    """Projects attended heads back to the residual stream."""
    weight = self.out[...].reshape(self.out.shape[0], -1)
    return self.partition.total(
      multiply(weight, heads.reshape(*heads.shape[:2], -1))
    )


class GroupedProjection(nnx.Module):
  """From the residual stream to each key-value head's group."""

  def __init__(
    self, config: Config, shape: tuple[int, int, int], rngs: nnx.Rngs
  ):
    axes = ("kv_heads", "group", "head_dim")
    width = config.embed_dim
    self.kernel = kernel(rngs, config, (*shape, width), (*axes, "embed"))
    self.bias = constant(0.0, config, shape, axes) if config.qkv_bias else None

  def __call__(self, x: Float[Array, "b s e"]) -> Float[Array, "b s k n d"]:
    """Projects every token."""
    weight = self.kernel[...]
    heads = multiply(weight.reshape(-1, weight.shape[-1]), x)
    heads = heads.reshape(*x.shape[:2], *weight.shape[:3])
    return heads if self.bias is None else heads + self.bias[...][None, None]


class GatedMLP(nnx.Module):
  r"""$W_\mathrm{down}(\mathrm{silu}(W_\mathrm{gate} x) \odot W_\mathrm{up} x)$.

  References:
    Shazeer, GLU Variants Improve Transformer, arXiv 2002.05202.
  """

  def __init__(
    self, config: Config, rngs: nnx.Rngs, partition: Partition = _WHOLE
  ):
    hidden, width = config.mlp_dim, config.embed_dim
    self.gate_up = kernel(
      rngs, config, (hidden, 2, width), ("mlp", "gate_up", "embed")
    )
    self.down = kernel(rngs, config, (width, hidden), ("embed", "mlp"))
    self.partition = partition

  def __call__(self, x: Float[Array, "b s e"]) -> Float[Array, "b s e"]:
    """Transforms every token."""
    weight = self.gate_up[...]
    both = multiply(weight.reshape(-1, weight.shape[-1]), x)
    both = both.reshape(*x.shape[:2], -1, 2)
    hidden = jax.nn.silu(both[..., 0]) * both[..., 1]
    return self.partition.total(multiply(self.down[...], hidden))


class Block(nnx.Module):
  """One decoder layer: norms, attention and MLP."""

  def __init__(
    self, config: Config, rngs: nnx.Rngs, partition: Partition = _WHOLE
  ):
    self.attention_norm = RMSNorm(config, config.embed_dim)
    self.attention = SelfAttention(config, rngs, partition)
    self.mlp_norm = RMSNorm(config, config.embed_dim)
    self.mlp = GatedMLP(config, rngs, partition)

  def __call__(
    self, x: Float[Array, "b s e"], attend: Callable[..., jax.Array]
  ) -> Float[Array, "b s e"]:
    """Adds attention and MLP to the residual stream.

    Args:
      x: the residual stream.
      attend: from queries, keys (both before rotation) and values to attended
        heads, `[b, s, h, d]`.

    Returns:
      The residual stream after the layer.
    """
    with jax.named_scope("attention"):
      heads = attend(*self.attention.project(self.attention_norm(x)))
      x = x + self.attention.merge(heads)
    with jax.named_scope("mlp"):
      return x + self.mlp(self.mlp_norm(x))
