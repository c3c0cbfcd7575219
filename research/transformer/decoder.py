"""The decoder: embeddings, a Python loop over blocks, logits."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from research.transformer import attention as attention_lib
from research.transformer import config as config_lib
from research.transformer import layers, rope
from research.transformer import partition as partition_lib

_WHOLE = partition_lib.Whole()


@dataclasses.dataclass(frozen=True)
class Taps:
  """What to read inside each layer; what is `None` costs nothing.

  Attributes:
    hidden: called with the residual stream after the layer, `[b, s, embed]`.
    attention: called with rotated queries `[b, s, head, d]` and keys
      `[b, s, kv_head, d]`, from which any rows of scores can be made.
  """

  hidden: Callable[[jax.Array], Any] | None = None
  attention: Callable[[jax.Array, jax.Array], Any] | None = None


class Output(NamedTuple):
  """What a pass over the blocks returns.

  Attributes:
    hidden: the residual stream, `[b, s, embed]`; normed but by `residual`.
    states: each layer's attention state.
    hidden_taps: what `Taps.hidden` returned, a layer each.
    attention_taps: what `Taps.attention` returned, a layer each.
  """

  hidden: jax.Array
  states: list[Any]
  hidden_taps: list[Any]
  attention_taps: list[Any]


class Decoder(nnx.Module):
  """A Llama, Qwen2 or Qwen3 decoder, by configuration.

  Example:
    >>> config = config_lib.DecoderConfig(
    ...   vocab_size=16, embed_dim=8, num_layers=1, num_heads=2,
    ...   num_kv_heads=1, head_dim=4, mlp_dim=16, context_length=32)
    >>> model = Decoder(config, nnx.Rngs(0))
    >>> tokens = jnp.zeros((1, 3), jnp.int32)
    >>> model.logits(model(tokens).hidden).shape
    (1, 3, 16)
  """

  def __init__(
    self,
    config: config_lib.DecoderConfig,
    rngs: nnx.Rngs,
    partition: partition_lib.Partition = _WHOLE,
  ):
    self.config, self.partition = config, partition
    table = (config.vocab_size, config.embed_dim)
    kernel = lambda: layers.kernel(rngs, config, table, ("vocab", "embed"))
    self.embedding = kernel()
    self.blocks = nnx.List(
      [layers.Block(config, rngs, partition) for _ in range(config.num_layers)]
    )
    self.norm = layers.RMSNorm(config, config.embed_dim)
    self.head = None if config.tie_embeddings else kernel()

  def embed(self, tokens: Int[Array, "b s"]) -> Float[Array, "b s e"]:
    """Looks up each token's vector."""
    return self.partition.look_up(self.embedding[...], tokens)

  def __call__(
    self,
    tokens: Int[Array, "b s"] | None = None,
    *,
    inputs_embeds: Float[Array, "b s e"] | None = None,
    positions: Int[Array, "b s"] | None = None,
    attention: attention_lib.Attention | None = None,
    states: Sequence[Any] | None = None,
    taps: Taps | None = None,
  ) -> Output:
    """Runs every block, and the norm behind the last.

    Args:
      tokens: token numbers; or give `inputs_embeds`.
      inputs_embeds: vectors in place of embedded tokens.
      positions: of the tokens in their rows; `0..s-1` when omitted.
      attention: how to attend; causal within the call when omitted.
      states: each layer's attention state, as the last call returned it.
      taps: what to read inside the layers.

    Returns:
      Normed hidden states, next states and what was tapped.

    Raises:
      ValueError: unless exactly one of tokens and inputs_embeds is given.
    """
    x = inputs_embeds if tokens is None else self.embed(tokens)
    both = tokens is not None and inputs_embeds is not None
    if x is None or both:
      raise ValueError("give exactly one of tokens and inputs_embeds")
    out = self.residual(
      x, positions=positions, attention=attention, states=states, taps=taps
    )
    return out._replace(hidden=self.norm(out.hidden))

  def residual(
    self,
    x: Float[Array, "b s e"],
    *,
    positions: Int[Array, "b s"] | None = None,
    attention: attention_lib.Attention | None = None,
    states: Sequence[Any] | None = None,
    taps: Taps | None = None,
  ) -> Output:
    """Runs every block on a residual stream, and norms nothing.

    Args:
      x: embedded tokens, or what another stage's blocks made of them.
      positions: as for `__call__`.
      attention: as for `__call__`.
      states: as for `__call__`.
      taps: as for `__call__`.

    Returns:
      The residual stream after the last block, and as `__call__`.
    """
    if positions is None:
      positions = jnp.broadcast_to(
        jnp.arange(x.shape[1], dtype=jnp.int32)[None], x.shape[:2]
      )
    config, taps = self.config, taps or Taps()
    attention = attention or attention_lib.Causal(self.partition)
    states = [None] * config.num_layers if states is None else list(states)
    inverse = rope.inverse_frequencies(
      config.head_dim, config.rope_theta, config.rope_scaling
    )
    rotation = rope.angles(positions, self.partition.frequencies(inverse))
    out = Output(x, [], [], [])
    for layer, block in enumerate(self.blocks):
      with jax.named_scope(f"layer_{layer}"):
        x = self._block(
          layer, block, x, positions, rotation, attention, states, taps, out
        )
    return out._replace(hidden=x)

  def logits(self, hidden: Float[Array, "b s e"]) -> Float[Array, "b s vocab"]:
    """Returns float32 logits of normed hidden states."""
    table = self.embedding if self.head is None else self.head
    with jax.named_scope("logits"):
      part = layers.multiply(table[...], hidden).astype(jnp.float32)
    return self.partition.join_logits(part)

  def _block(
    self, layer, block, x, positions, rotation, attention, states, taps, out
  ):
    def attend(q, k, v):
      q, k = rope.rotate(q, *rotation), rope.rotate(k, *rotation)
      if taps.attention is not None:
        out.attention_taps.append(taps.attention(q, k))
      heads, state = attention(layer, q, k, v, positions, states[layer])
      out.states.append(state)
      return heads

    x = block(x, attend)
    if taps.hidden is not None:
      out.hidden_taps.append(taps.hidden(x))
    return x


def abstract(
  config: config_lib.DecoderConfig,
  partition: partition_lib.Partition = _WHOLE,
) -> tuple[Any, Any]:
  """Returns the graph definition and abstract parameters, allocating nothing.

  Args:
    config: the decoder.
    partition: how ranks share it.

  Returns:
    `(graphdef, state)` as `nnx.split` gives them; every leaf of `state` is a
    `jax.ShapeDtypeStruct`.
  """
  return nnx.split(
    nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0), partition))
  )
