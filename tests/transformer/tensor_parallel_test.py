"""A decoder over several ranks says what it says on one."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from collectives import algorithms
from research import mesh as mesh_lib
from research.transformer import attention, cache, tensor_parallel
from research.transformer import config as config_lib
from research.transformer.checkpoints import model

_SMOLLM2_HEADS = config_lib.DecoderConfig(
  vocab_size=96,
  embed_dim=32,
  num_layers=2,
  num_heads=9,
  num_kv_heads=3,
  head_dim=16,
  mlp_dim=48,
  context_length=64,
  tie_embeddings=True,
)
_EIGHT_HEADS = dataclasses.replace(
  _SMOLLM2_HEADS, num_heads=8, num_kv_heads=4, tie_embeddings=False
)
_QWEN = dataclasses.replace(
  _SMOLLM2_HEADS, architecture="qwen3", qk_norm=True, qkv_bias=True
)
_EIGHT_HEADS_ON = {"node": 2, "local": 2}
_CASES = [
  (_SMOLLM2_HEADS, {"node": 1, "local": 2}, "head_dim"),
  (_SMOLLM2_HEADS, {"node": 1, "local": 3}, "heads"),
  pytest.param(
    *(_SMOLLM2_HEADS, {"node": 2, "local": 4}, "head_dim"),
    marks=pytest.mark.slow,
  ),
  (_EIGHT_HEADS, _EIGHT_HEADS_ON, "heads"),
  (_QWEN, {"node": 2, "local": 2}, "head_dim"),
]
_PROMPT, _SIZE = 11, 8


@functools.cache
def _whole(config: config_lib.DecoderConfig) -> model.Model:
  """Random weights, those that start at a constant too."""
  start = model.initialise(config, seed=0)
  leaves, tree = jax.tree.flatten(start.state)
  rng = np.random.default_rng(0)
  moved = [leaf + 0.1 * rng.normal(size=leaf.shape) for leaf in leaves]
  moved = [jnp.asarray(leaf, "float32") for leaf in moved]
  return dataclasses.replace(start, state=jax.tree.unflatten(tree, moved))


def _tokens(config: config_lib.DecoderConfig) -> np.ndarray:
  rng = np.random.default_rng(1)
  return rng.integers(0, config.vocab_size, (2, _PROMPT + 1)).astype("int32")


def _prefill_and_decode(one: model.Model, tokens, table, pool, state):
  """Logits of a prompt's every position and of one token after it."""
  bound = one.bind(state)
  prompt = bound(
    tokens[:, :_PROMPT],
    attention=attention.PagedPrefill(table, bound.partition),
    states=pool,
  )
  after = bound(
    tokens[:, _PROMPT:],
    positions=jnp.full((2, 1), _PROMPT),
    attention=attention.PagedDecode(table, bound.partition),
    states=prompt.states,
  )
  hidden = jnp.concatenate([prompt.hidden, after.hidden], axis=1)
  return bound.logits(hidden)


@functools.cache
def _expected(config: config_lib.DecoderConfig) -> np.ndarray:
  whole = _whole(config)
  bound = whole.bind(whole.state)
  return np.asarray(bound.logits(bound(jnp.asarray(_tokens(config))).hidden))


def _compile(
  config: config_lib.DecoderConfig, shape: dict[str, int], algorithm: str
):
  mesh = mesh_lib.make_mesh(shape)
  split = tensor_parallel.split(_whole(config), mesh, algorithm=algorithm)
  ranks = shape["node"] * shape["local"]
  partition = tensor_parallel.partition_of(config, tuple(shape), ranks)
  places = cache.pool_shardings(config, mesh, partition.rules)
  table = cache.contiguous_table(2, tokens=_PROMPT + 1, page_size=_SIZE)
  pool = cache.make_pool(config, num_pages=table.size, page_size=_SIZE)
  pool = jax.device_put(pool, places)
  same = PartitionSpec()
  step = jax.shard_map(
    functools.partial(_prefill_and_decode, split),
    mesh=mesh,
    in_specs=(
      same,
      same,
      jax.tree.map(lambda place: place.spec, places),
      tensor_parallel.specs(split),
    ),
    out_specs=same,
    check_vma=False,
  )
  given = (_tokens(config), table, pool, split.state)
  return jax.jit(step).lower(*given).compile(), given


@pytest.mark.parametrize(("config", "shape", "attention_by"), _CASES)
def test_logits_are_those_of_one_rank(config, shape, attention_by):
  compiled, given = _compile(config, shape, "nvrar")
  ranks = shape["node"] * shape["local"]
  partition = tensor_parallel.partition_of(config, tuple(shape), ranks)
  assert partition.attention == attention_by
  np.testing.assert_allclose(
    compiled(*given), _expected(config), rtol=0, atol=2e-5
  )


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["xla", *algorithms.names("all_reduce")])
def test_every_all_reduce_gives_the_logits(algorithm):
  compiled, given = _compile(_EIGHT_HEADS, _EIGHT_HEADS_ON, algorithm)
  np.testing.assert_allclose(
    compiled(*given), _expected(_EIGHT_HEADS), rtol=0, atol=2e-5
  )


def test_trap_18_a_layer_adds_up_twice_and_the_embedding_once():
  """Per pass; logits are gathered once, and no weight travels."""
  compiled, _ = _compile(_EIGHT_HEADS, _EIGHT_HEADS_ON, "xla")
  hlo = compiled.as_text() or ""
  lines = re.findall(r"= (.*) all-reduce\(", hlo)  # XLA joins those of equals
  reduced = re.findall(r"f32\[([\d,]*)\]", " ".join(lines))
  per_pass = 1 + 2 * _EIGHT_HEADS.num_layers
  assert len(reduced) == 2 * per_pass
  width = _EIGHT_HEADS.embed_dim
  sizes = [int(np.prod([int(n) for n in dims.split(",")])) for dims in reduced]
  assert sorted(sizes) == sorted(
    per_pass * [2 * width] + per_pass * [2 * _PROMPT * width]
  )
  assert len(re.findall(r" all-gather\(", hlo)) == 1
  assert not re.findall(r" (all-to-all|collective-permute)\(", hlo)


def test_each_rank_has_its_part_of_weights_and_pool():
  split = tensor_parallel.split(
    _whole(_SMOLLM2_HEADS), mesh_lib.make_mesh({"node": 2, "local": 2})
  )
  own = lambda x: x.addressable_shards[0].data.shape
  block = split.state["blocks"][0]
  assert own(block["attention"]["qkv"]["kernel"][...]) == (3, 5, 4, 32)
  assert own(block["attention"]["out"][...]) == (32, 9, 4)
  assert own(block["mlp"]["down"][...]) == (32, 12)
  assert own(split.state["embedding"][...]) == (24, 32)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"mlp_dim": 50}, "got 4 ranks for 50 hidden units"),
    ({"head_dim": 12}, "a divisor of 3 key-value heads or of 6 rotary pairs"),
  ],
)
def test_ranks_that_divide_nothing_are_refused(change, message):
  config = dataclasses.replace(_SMOLLM2_HEADS, **change)
  with pytest.raises(tensor_parallel.PartitionError, match=message):
    tensor_parallel.partition_of(config, ("node", "local"), 4)
