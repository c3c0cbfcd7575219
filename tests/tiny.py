"""A decoder small enough for hundreds of steps on one core."""

import jax

from research.transformer import checkpoints
from research.transformer import config as config_lib
from research.transformer.checkpoints import model as model_lib

CONFIG = config_lib.DecoderConfig(
  vocab_size=256,
  embed_dim=32,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  mlp_dim=64,
  context_length=96,
)


def chaotic(
  config: config_lib.DecoderConfig = CONFIG, seed: int = 0
) -> checkpoints.Model:
  """Weights so large that each token depends on all before it."""
  found = model_lib.initialise(config, seed=seed)
  wide = jax.tree.map(lambda x: x * 12 if x.ndim > 1 else x, found.state)
  return checkpoints.Model(config, found.graphdef, wide)
