"""Real decode shapes, by name: tests lower and check every one of them."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Shape:
  """The sizes of one decode step.

  Attributes:
    name: model and context.
    batch: rows.
    heads: query heads.
    kv_heads: key-value heads.
    head_dim: width of a head.
    tokens: the most tokens a row may hold.
    page_size: tokens a page holds.
    dtype: of queries, keys and values.
    queries: tokens of a row in one call; more than 1 verifies a draft.
  """

  name: str
  batch: int
  heads: int
  kv_heads: int
  head_dim: int
  tokens: int
  page_size: int = 64
  dtype: str = "bfloat16"
  queries: int = 1

  def arguments(self) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Abstract arguments of an implementation's `attend`, in its order."""
    pages = -(-self.tokens // self.page_size)
    pool = (self.batch * pages, self.kv_heads)
    like = jax.ShapeDtypeStruct
    rows = (self.batch, self.queries)
    return (
      like((*rows, self.heads, self.head_dim), jnp.dtype(self.dtype)),
      like((*pool, self.head_dim, self.page_size), jnp.dtype(self.dtype)),
      like((*pool, self.page_size, self.head_dim), jnp.dtype(self.dtype)),
      like((self.batch, pages), jnp.int32),
      like((self.batch,), jnp.int32),
      like((*rows, self.heads), jnp.float32),
      like(rows, jnp.int32),
    )


SHAPES = (
  Shape("smollm2-135m-8k", 8, 9, 3, 64, 8192),
  Shape("llama-3-8b-8k", 16, 32, 8, 128, 8192),
  Shape("llama-3-8b-128k", 1, 32, 8, 128, 131072, page_size=128),
  Shape("llama-3-8b-8k-verify-4", 16, 32, 8, 128, 8192, queries=4),
  Shape("gemma-3-270m-32k", 4, 4, 1, 256, 32768),
  Shape("gemma-3-270m-32k-verify-8", 4, 4, 1, 256, 32768, queries=8),
  Shape("smollm2-135m-8k-float32", 8, 9, 3, 64, 8192, dtype="float32"),
  Shape("gemma-3-270m-32k-float32", 4, 4, 1, 256, 32768, dtype="float32"),
)
