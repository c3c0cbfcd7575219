"""A model small enough for hundreds of steps, and prompts for it."""

import dataclasses

import numpy as np
import pytest

from research.inference import generation, sampling
from research.transformer import checkpoints
from research.transformer.checkpoints import model
from tests import tiny as tiny_lib


@pytest.fixture(scope="session")
def tiny() -> checkpoints.Model:
  config = dataclasses.replace(
    tiny_lib.CONFIG, vocab_size=64, context_length=1024, tie_embeddings=True
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
