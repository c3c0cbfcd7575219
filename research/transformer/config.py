"""What distinguishes one decoder from another."""

import dataclasses
from typing import Literal

from research.transformer import rope

Architecture = Literal["llama", "qwen2", "qwen3"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """A Llama-style decoder; hashable, so it may be a static jit argument.

  Attributes:
    architecture: the family, which fixes names in checkpoints.
    vocab_size: tokens, padding included.
    embed_dim: width of the residual stream.
    num_layers: blocks.
    num_heads: query heads.
    num_kv_heads: key and value heads; each serves
      `num_heads // num_kv_heads` query heads.
    head_dim: width of a head.
    mlp_dim: hidden width of the gated MLP.
    context_length: longest sequence, in tokens.
    rope_theta: base of the rotary frequencies.
    rope_scaling: divisors of those frequencies for longer contexts.
    norm_eps: added to the mean square in RMS norms.
    tie_embeddings: whether logits use the input embedding.
    qkv_bias: whether query, key and value projections have a bias (Qwen2).
    qk_norm: whether queries and keys are RMS-normed per head (Qwen3).
    dtype: of weights and activations; norms and softmax are in float32.
  """

  architecture: Architecture = "llama"
  vocab_size: int
  embed_dim: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_dim: int
  context_length: int
  rope_theta: float = 10_000.0
  rope_scaling: rope.Scaling | None = None
  norm_eps: float = 1e-5
  tie_embeddings: bool = False
  qkv_bias: bool = False
  qk_norm: bool = False
  dtype: str = "float32"

  def __post_init__(self) -> None:
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f"num_heads must be a multiple of num_kv_heads, got {self.num_heads} "
        f"and {self.num_kv_heads}"
      )
    if self.head_dim % 2:
      raise ValueError(
        f"head_dim must be even for rotary pairs, got {self.head_dim}"
      )

  @property
  def num_parameters(self) -> int:
    """Number of weights, a tied embedding counted once."""
    qkv = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
    attention = self.embed_dim * (qkv + self.num_heads * self.head_dim)
    attention += qkv if self.qkv_bias else 0
    attention += 2 * self.head_dim if self.qk_norm else 0
    block = attention + 3 * self.embed_dim * self.mlp_dim + 2 * self.embed_dim
    tables = 1 if self.tie_embeddings else 2
    return (
      self.num_layers * block
      + tables * self.vocab_size * self.embed_dim
      + self.embed_dim
    )
