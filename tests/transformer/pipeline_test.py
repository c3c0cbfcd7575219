"""A pipeline's stages together say what one device says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from research import mesh as mesh_lib
from research.transformer import attention, cache, pipeline, tensor_parallel
from research.transformer import config as config_lib
from research.transformer.checkpoints import model

_CONFIG = config_lib.DecoderConfig(
  vocab_size=96,
  embed_dim=32,
  num_layers=3,
  num_heads=9,
  num_kv_heads=3,
  head_dim=16,
  mlp_dim=48,
  context_length=64,
)
_ROWS, _TOKENS, _SIZE, _PAGES = 4, 9, 8, 8


@functools.cache
def _whole() -> model.Model:
  return model.initialise(_CONFIG, seed=0)


def _tokens() -> np.ndarray:
  rng = np.random.default_rng(1)
  shape = (_ROWS, _TOKENS)
  return rng.integers(0, _CONFIG.vocab_size, shape).astype("int32")


def _through_stages(split: model.Model, micros: int, tokens, table, pool, own):
  """Logits of all rows, in so many micro-batches."""
  bound = split.bind(pipeline.own_stage(own))
  piled = lambda x: x.reshape(micros, -1, *x.shape[1:])
  tables = piled(table)
  positions = jnp.broadcast_to(jnp.arange(_TOKENS), tokens.shape)
  out, pool = pipeline.residual(
    bound,
    piled(bound.embed(tokens)),
    piled(positions),
    lambda micro: attention.PagedDecode(tables[micro], bound.partition),
    pool,
  )
  hidden = pipeline.from_last(out).reshape(_ROWS, _TOKENS, -1)
  return bound.logits(bound.norm(hidden)), pool


@pytest.mark.parametrize(
  ("stages", "local", "micros"), [(2, 1, 1), (2, 2, 2), (3, 2, 4)]
)
def test_trap_18_stages_give_the_logits_and_pool_of_one(stages, local, micros):
  """Three layers on two stages: the second one has a layer of zeros."""
  mesh = mesh_lib.make_mesh({"pipe": stages, "node": 1, "local": local})
  split = tensor_parallel.split(
    pipeline.stack(_whole(), stages), mesh, algorithm="recursive_doubling"
  )
  partition = tensor_parallel.partition_of(_CONFIG, ("node", "local"), local)
  places = cache.pool_shardings(split.config, mesh, partition.rules)
  empty = cache.make_pool(
    split.config, num_pages=_PAGES * stages, page_size=_SIZE
  )
  pool = jax.device_put(empty, places)
  specs = jax.tree.map(lambda place: place.spec, places)
  table = cache.contiguous_table(_ROWS, tokens=_TOKENS, page_size=_SIZE)
  same = PartitionSpec()
  run = jax.shard_map(
    functools.partial(_through_stages, split, micros),
    mesh=mesh,
    in_specs=(same, same, specs, tensor_parallel.specs(split)),
    out_specs=(same, specs),
    check_vma=False,
  )
  tokens = jnp.asarray(_tokens())
  logits, pool = jax.jit(run)(tokens, table, pool, split.state)
  want, wanted = _alone(tokens, table)
  np.testing.assert_allclose(logits, want, rtol=0, atol=1e-5)
  for layer in range(_CONFIG.num_layers):
    each = split.config.num_layers
    start = layer // each * _PAGES
    found = np.asarray(pool[layer % each].v)[start : start + _PAGES]
    if partition.attention == "heads":  # else its width is in another order
      np.testing.assert_allclose(found, wanted[layer].v, rtol=0, atol=1e-5)


@functools.cache
def _alone_step():
  @jax.jit
  def step(state, tokens, table, pool):
    bound = _whole().bind(state)
    positions = jnp.broadcast_to(jnp.arange(_TOKENS), tokens.shape)
    attend = attention.PagedDecode(table)
    out = bound(tokens, positions=positions, attention=attend, states=pool)
    return bound.logits(out.hidden), out.states

  return step


def _alone(tokens, table):
  pool = cache.make_pool(_CONFIG, num_pages=_PAGES, page_size=_SIZE)
  return _alone_step()(_whole().state, tokens, table, pool)
