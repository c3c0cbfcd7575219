"""Real all-reduces, by name: tests compile every one of them."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Shape:
  """One layer's all-reduce in a decode step under tensor parallelism.

  Attributes:
    name: model and batch.
    tokens: rows, one for each sequence.
    hidden: width of the model.
    dtype: of the activations.
  """

  name: str
  tokens: int
  hidden: int
  dtype: str = "bfloat16"

  def like(self) -> jax.ShapeDtypeStruct:
    """What each device reduces."""
    return jax.ShapeDtypeStruct(
      (self.tokens, self.hidden), jnp.dtype(self.dtype)
    )


SHAPES = (
  Shape("llama-3.1-70b-1", 1, 8192),
  Shape("llama-3.1-405b-4", 4, 16384),  # 128 KiB
  Shape("llama-3.1-405b-64", 64, 16384),  # 2 MiB
  Shape("smollm2-135m-3", 3, 576),  # divides by nothing
  Shape("llama-3.1-70b-4-float32", 4, 8192, "float32"),
)
