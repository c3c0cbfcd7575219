"""Windows of real text, and what a model makes of their tokens."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from research.data import texts
from research.transformer import decoder

_BLOCK = 128  # tokens whose logits exist at once


def cut(
  names: tuple[str, ...],
  encode: Callable[[str], list[int]],
  *,
  size: int,
  count: int,
) -> dict[str, Int[np.ndarray, " tokens"]]:
  """Cuts every text's windows, evenly spread.

  Args:
    names: of the texts.
    encode: the tokenizer.
    size: tokens of a window.
    count: windows of each text.

  Returns:
    Token numbers by window, named `text.number`.
  """
  windows = {}
  for name in names:
    rows = texts.windows(encode(texts.load(name)), size=size, count=count)
    for number, row in enumerate(rows):
      windows[f"{name.split('/')[-1]}.{number}"] = row
  return windows


def token_nll(
  bound: decoder.Decoder,
  hidden: Float[Array, "1 tokens embed"],
  tokens: Int[Array, " tokens"],
) -> Float[Array, " predicted"]:
  """Negative log-likelihood of each token but the first, in nats.

  Few rows of logits exist at a time.

  Args:
    bound: the model.
    hidden: normed hidden states of the window.
    tokens: the window.
  """
  rows = []
  for start in range(0, len(tokens) - 1, _BLOCK):
    stop = min(start + _BLOCK, len(tokens) - 1)
    logits = bound.logits(hidden[:, start:stop])[0]
    rows.append(_surprise(logits, tokens[start + 1 : stop + 1]))
  return jnp.concatenate(rows)


@jax.jit
def _surprise(
  logits: Float[Array, "rows vocab"], chosen: Int[Array, " rows"]
) -> Float[Array, " rows"]:
  log_chances = jax.nn.log_softmax(logits, axis=-1)
  return -jnp.take_along_axis(log_chances, chosen[:, None], axis=1)[:, 0]
