"""A model small enough for hundreds of steps, and prompts for it."""

import numpy as np
import pytest

from research.inference import generation, sampling
from research.transformer import checkpoints
from research.transformer import config as config_lib
from research.transformer.checkpoints import model


@pytest.fixture(scope="session")
def tiny() -> checkpoints.Model:
  config = config_lib.DecoderConfig(
    vocab_size=64,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=64,
    context_length=1024,
    tie_embeddings=True,
  )
  return model.initialise(config, seed=0)


@pytest.fixture(scope="session")
def generate(tiny):
  """Generates greedily; returns tokens, last states and the generator."""

  def run(attend, lengths=(33, 20, 7), steps=12, on=None):
    on = on or generation.Generator(tiny, attention=attend, page_size=16)
    greedy = [sampling.Sampling()] * len(lengths)
    prompts = [
      np.random.default_rng(n).integers(0, 64, n).tolist() for n in lengths
    ]
    states: list = []
    stream = on.stream(prompts, greedy, max_tokens=steps, at_end=states.extend)
    return np.stack(list(stream), 1), states, on

  return run
