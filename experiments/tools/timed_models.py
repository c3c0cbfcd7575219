"""Decoders for timings, small enough for what they are to show."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx

from research.transformer import checkpoints, decoder
from research.transformer import config as config_lib
from research.transformer.checkpoints import model

_HEADS = 8
_VOCABULARY = 512
_CONTEXT = 1024


def first_layers(whole: checkpoints.Model, layers: int) -> checkpoints.Model:
  """Returns a decoder without its later layers.

  Args:
    whole: the decoder.
    layers: how many to keep, at most.
  """
  kept = min(layers, whole.config.num_layers)
  config = dataclasses.replace(whole.config, num_layers=kept)
  blocks = {i: whole.state["blocks"][i] for i in range(kept)}
  state = nnx.State({**whole.state, "blocks": nnx.State(blocks)})
  return model.Model(config, decoder.abstract(config)[0], state)


def wide(layers: int, width: int) -> checkpoints.Model:
  """Returns a random decoder, wide between its layers and narrow inside.

  Messages are as wide as the residual stream, so they are those of a large
  model, while two cores can still multiply what is within a layer.

  Args:
    layers: how many.
    width: of the residual stream, a multiple of 16.
  """
  config = config_lib.DecoderConfig(
    vocab_size=_VOCABULARY,
    embed_dim=width,
    num_layers=layers,
    num_heads=_HEADS,
    num_kv_heads=_HEADS,
    head_dim=min(64, width // _HEADS),
    mlp_dim=min(1024, 4 * width),
    context_length=_CONTEXT,
  )
  graphdef, state = decoder.abstract(config)
  rng = np.random.default_rng(0)
  filled = [
    (path, variable.replace(_draw(rng, variable)))
    for path, variable in model.parameters(state)
  ]
  return model.Model(config, graphdef, nnx.from_flat_state(filled))


def _draw(rng: np.random.Generator, variable: nnx.Variable):
  if len(variable.shape) == 1:  # a norm's scales
    return jnp.ones(variable.shape, variable.dtype)
  values = rng.standard_normal(variable.shape, np.float32)
  return jnp.asarray(values / np.sqrt(variable.shape[0]), variable.dtype)
