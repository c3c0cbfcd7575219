"""The decoder's own promises: taps, entries, counts, gradients, sharding."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research import mesh as mesh_lib
from research.transformer import decoder as decoder_lib
from research.transformer import rope
from research.transformer.checkpoints import model


@pytest.fixture(scope="module")
def small(load_recorded):
  return load_recorded("qwen3")


def _run(source, **arguments):
  tokens = jnp.asarray(source.tokens)

  def run(state):
    return source.model.bind(state)(tokens, **arguments)

  return run


def test_tapped_values_equal_recomputed_ones(small):
  taps = decoder_lib.Taps(hidden=lambda x: x, attention=lambda q, k: (q, k))
  out = jax.jit(_run(small, taps=taps))(small.model.state)
  decoder = small.model.bind(small.model.state)
  config = small.model.config
  assert len(out.hidden_taps) == len(out.attention_taps) == config.num_layers
  positions = jnp.tile(jnp.arange(24), (2, 1))
  rotation = rope.angles(
    positions, rope.inverse_frequencies(config.head_dim, config.rope_theta)
  )
  x = decoder.embed(jnp.asarray(small.tokens))
  for layer, block in enumerate(decoder.blocks):
    q, k, v = block.attention.project(block.attention_norm(x))
    q, k = rope.rotate(q, *rotation), rope.rotate(k, *rotation)
    for found, expected in zip(out.attention_taps[layer], (q, k), strict=True):
      np.testing.assert_allclose(found, expected, atol=1e-4)
    x = x + block.attention.merge(_attend(q, k, v))
    x = x + block.mlp(block.mlp_norm(x))
    np.testing.assert_allclose(out.hidden_taps[layer], x, atol=1e-4)
  np.testing.assert_allclose(out.hidden, decoder.norm(x), atol=1e-4)


def _attend(q, k, v) -> jax.Array:
  """Softmax attention written out in numpy, heads repeated."""
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  k, v = (np.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
  scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
  scores[..., ~np.tri(q.shape[1], dtype=bool)] = -np.inf
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  return jnp.asarray(np.einsum("bhqk,bkhd->bqhd", weights, v), jnp.float32)


def test_unused_taps_leave_the_program_unchanged(small):
  state = small.model.state
  plain = jax.make_jaxpr(lambda s: _run(small)(s).hidden)(state)
  empty = jax.make_jaxpr(
    lambda s: _run(small, taps=decoder_lib.Taps())(s).hidden
  )(state)
  assert str(plain) == str(empty)


def test_a_tap_whose_value_is_dropped_is_compiled_away(small):
  taps = decoder_lib.Taps(
    hidden=lambda x: jnp.tanh(x).sum(), attention=lambda q, k: (q, k)
  )

  def count(**arguments) -> int:
    step = lambda state: _run(small, **arguments)(state).hidden
    compiled = jax.jit(step).lower(small.model.state).compile()
    text = compiled.as_text()
    assert text is not None
    return text.count(" = ")

  assert count(taps=taps) == count()


def test_embeddings_in_place_of_tokens(small):
  by_tokens = jax.jit(_run(small))(small.model.state)

  def run(state):
    decoder = small.model.bind(state)
    vectors = decoder.embed(jnp.asarray(small.tokens))
    return decoder(inputs_embeds=vectors)

  by_vectors = jax.jit(run)(small.model.state)
  np.testing.assert_array_equal(by_vectors.hidden, by_tokens.hidden)


@pytest.mark.parametrize("both", [True, False])
def test_exactly_one_entry(small, both):
  decoder = small.model.bind(small.model.state)
  tokens = jnp.asarray(small.tokens)
  given = (tokens, decoder.embed(tokens)) if both else (None, None)
  with pytest.raises(
    ValueError, match="give exactly one of tokens and inputs_embeds"
  ):
    decoder(given[0], inputs_embeds=given[1])


def test_positions_shift_nothing_but_rotation(small):
  # Rotary scores depend on distances, so one shift for all changes nothing.
  plain = jax.jit(_run(small))(small.model.state).hidden
  positions = jnp.tile(jnp.arange(24), (2, 1)) + 40
  shifted = jax.jit(_run(small, positions=positions))(small.model.state).hidden
  np.testing.assert_allclose(shifted, plain, atol=1e-4)


def test_num_parameters_counts_the_weights(recorded):
  leaves = jax.tree.leaves(recorded.model.state)
  assert recorded.model.config.num_parameters == sum(x.size for x in leaves)
  assert recorded.model.num_bytes == sum(x.nbytes for x in leaves)


def test_abstract_parameters_are_the_real_ones(recorded):
  graphdef, state = decoder_lib.abstract(recorded.model.config)
  assert graphdef == recorded.model.graphdef
  assert all(
    isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state)
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(state, recorded.model.state)


def _loss(source):
  tokens = jnp.asarray(source.tokens)

  def loss(state):
    decoder = source.model.bind(state)
    chances = jax.nn.log_softmax(decoder.logits(decoder(tokens).hidden))
    chosen = jnp.take_along_axis(chances[:, :-1], tokens[:, 1:, None], axis=-1)
    return -chosen.mean()

  return loss


def test_gradients_reach_every_parameter(recorded):
  gradients = jax.jit(jax.grad(_loss(recorded)))(recorded.model.state)
  for path, gradient in model.parameters(gradients):
    values = np.asarray(gradient[...])
    assert np.isfinite(values).all(), path
    assert np.abs(values).max() > 1e-6, path


def test_gradients_are_slopes(small):
  loss, state = jax.jit(_loss(small)), small.model.state
  gradients = jax.jit(jax.grad(_loss(small)))(state)
  rng = np.random.default_rng(0)
  direction = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), state
  )
  slope = sum(
    float((g * d).sum())
    for g, d in zip(
      jax.tree.leaves(gradients), jax.tree.leaves(direction), strict=True
    )
  )
  moved = lambda step: jax.tree.map(lambda x, d: x + step * d, state, direction)
  step = 1e-3
  measured = (loss(moved(step)) - loss(moved(-step))) / (2 * step)
  assert float(measured) == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize(
  ("name", "shape"),
  [
    ("llama3", {"local": 2}),
    ("qwen2_untied", {"local": 8}),
    ("qwen3", {"node": 2, "local": 2}),
  ],
)
def test_tensor_parallel_logits_agree(load_recorded, runner, name, shape):
  recorded = load_recorded(name)
  split = recorded.model.shard(mesh_lib.make_mesh(shape), model.TENSOR_PARALLEL)
  logits = runner.logits(split, recorded.tokens)
  assert np.abs(logits - recorded.logits).max() <= 1e-4


def test_weights_are_split_where_they_divide(load_recorded):
  mesh = mesh_lib.make_mesh({"local": 4})
  source = load_recorded("llama3").model
  split = source.shard(mesh, model.TENSOR_PARALLEL)
  block = split.bind(split.state).blocks[0]
  shape = lambda p: p[...].addressable_shards[0].data.shape
  assert shape(block.attention.out) == (64, 1, 16)  # 4 heads, 4 devices
  assert shape(block.attention.qkv.kernel) == (2, 4, 16, 64)  # 2 kv heads
  assert shape(block.mlp.gate_up) == (20, 2, 64)
  assert shape(block.mlp.down) == (64, 20)
  assert shape(block.mlp_norm.scale) == (64,)


def test_bfloat16_computes_in_bfloat16(load_recorded):
  config = load_recorded("llama3").model.config
  half = model.initialise(dataclasses.replace(config, dtype="bfloat16"), seed=0)
  out = jax.jit(lambda s: half.bind(s)(jnp.zeros((1, 4), jnp.int32)))(
    half.state
  )
  assert out.hidden.dtype == jnp.bfloat16
  logits = half.bind(half.state).logits(out.hidden)
  assert logits.dtype == jnp.float32


def test_seeds_decide_the_weights(load_recorded):
  config = load_recorded("llama3").model.config
  one, again, other = (model.initialise(config, seed=s) for s in (0, 0, 1))
  chex.assert_trees_all_equal(one.state, again.state)
  kernel = lambda m: np.asarray(nnx.merge(m.graphdef, m.state).embedding[...])
  assert not np.array_equal(kernel(one), kernel(other))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      {"num_heads": 3},
      "num_heads must be a multiple of num_kv_heads, got 3 and 2",
    ),
    ({"head_dim": 7}, "head_dim must be even for rotary pairs, got 7"),
  ],
)
def test_impossible_configs_are_refused(load_recorded, change, message):
  config = load_recorded("llama3").model.config
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(config, **change)
