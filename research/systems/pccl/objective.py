"""What the training steps minimise: next-token cross-entropy."""

import jax
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from research.transformer import config as config_lib
from research.transformer import decoder


def cross_entropy(
  logits: Float[Array, "b s vocab"], targets: Int[Array, "b s"]
) -> Float[Array, ""]:
  r"""Mean negative log probability of the targets, in nats.

  $$L = -\frac{1}{bs} \sum_{i,j} \log p_{ij}(t_{ij})$$
  """
  return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def parameters(config: config_lib.DecoderConfig, key: jax.Array) -> dict:
  """Returns random parameters of a decoder as nested dictionaries of arrays."""
  return nnx.to_pure_dict(nnx.state(decoder.Decoder(config, nnx.Rngs(key))))


def scalar_algorithm(algorithm: str) -> str:
  """Returns the all-reduce that a loss takes beside gradients of `algorithm`.

  A scalar costs latency alone, so no ring should carry it; what `"xla"` does
  stays XLA's own, which may put it into a gradient's all-reduce.

  Example:
    >>> scalar_algorithm("pccl_recursive"), scalar_algorithm("xla")
    ('recursive_doubling', 'xla')
  """
  return "xla" if algorithm == "xla" else "recursive_doubling"


def loss(
  config: config_lib.DecoderConfig, params: dict, tokens: Int[Array, "b s"]
) -> Float[Array, ""]:
  """Mean cross-entropy of every token but the first of each row.

  Args:
    config: the decoder.
    params: what `parameters` returned, trained or not.
    tokens: rows of a text.

  Returns:
    The loss in nats.

  Example:
    >>> config = config_lib.DecoderConfig(
    ...   vocab_size=16, embed_dim=8, num_layers=1, num_heads=2,
    ...   num_kv_heads=1, head_dim=4, mlp_dim=16, context_length=32)
    >>> params = parameters(config, jax.random.key(0))
    >>> tokens = jax.numpy.zeros((1, 4), "int32")
    >>> print(f"{loss(config, params, tokens):.1f}")
    2.8
  """
  model = nnx.merge(decoder.abstract(config)[0], nnx.State(params))
  hidden = model(tokens[:, :-1]).hidden
  return cross_entropy(model.logits(hidden), tokens[:, 1:])
