"""The real model (skipped where it cannot be fetched), and a small one."""

import pytest

from research.transformer import checkpoints
from research.transformer import config as config_lib
from research.transformer.checkpoints import model


@pytest.fixture(scope="session")
def small() -> checkpoints.Model:
  """Two layers of SmolLM2's widths with a small vocabulary."""
  config = config_lib.DecoderConfig(
    vocab_size=2048,
    embed_dim=576,
    num_layers=2,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    mlp_dim=1536,
    context_length=256,
    tie_embeddings=True,
  )
  return model.initialise(config, seed=0)
