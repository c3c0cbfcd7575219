"""What the tests of training share: decoders, batches, and one device."""

import functools

import jax
import numpy as np
import optax

from research.systems.pccl import objective
from research.transformer import config as config_lib

LLAMA = config_lib.DecoderConfig(
  vocab_size=37,
  embed_dim=8,
  num_layers=2,
  num_heads=2,
  num_kv_heads=1,
  head_dim=4,
  mlp_dim=10,
  context_length=8,
)
SGD = optax.sgd(0.5, momentum=0.9)
STEPS = 3


def batches(config):
  """Random tokens, `[24, 6]` each: rows for 2, 3, 4 and 8 ranks."""
  rng = np.random.default_rng(0)
  shape = (STEPS, 24, 6)
  return rng.integers(0, config.vocab_size, shape).astype(np.int32)


@functools.cache
def start(config):
  """Parameters before training."""
  make = jax.jit(functools.partial(objective.parameters, config))
  return make(jax.random.key(0))


@functools.cache
def single_device(config, optimizer):
  """Losses and last parameters of training without any mesh."""

  @jax.jit
  def step(params, state, tokens):
    loss, gradients = jax.value_and_grad(
      functools.partial(objective.loss, config)
    )(params, tokens)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss

  params = start(config)
  state, losses = optimizer.init(params), []
  for tokens in batches(config):
    params, state, loss = step(params, state, tokens)
    losses.append(float(loss))
  return losses, params
