"""Sifted generation against exact generation and against whole rows."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import mesh as mesh_lib
from research.inference import generation as inference
from research.inference import sampling
from research.systems.sift_attention import generation, selection, sifting
from research.systems.sift_attention.policies import (
  certified,
  control,
  law,
  rules,
)
from research.transformer import cache
from research.transformer import config as config_lib
from research.transformer.checkpoints import model

_LAW = law.PowerLaw(warmup=3)
_CONFIG = config_lib.DecoderConfig(
  vocab_size=8,
  embed_dim=8,
  num_layers=1,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  mlp_dim=8,
  context_length=64,
)
_PROMPT, _STEPS = np.array([20, 11], np.int32), 6


def _tokens(count: int, peak=2.0):
  """Queries, keys and values of two rows."""
  keys = jax.random.split(jax.random.key(count), 3)
  make = lambda key, heads: jax.random.normal(key, (2, count, heads, 8))
  q, k, v = make(keys[0], 4), make(keys[1], 2), make(keys[2], 2)
  return peak * q, k, v


_TABLE = cache.contiguous_table(2, tokens=32, page_size=8)


@functools.cache
def _prompts() -> cache.Pages:
  pool = cache.make_pool(_CONFIG, num_pages=8, page_size=8)
  return cache.write_prefix(pool[0], _TABLE, *_tokens(24)[1:])


def _begin(spec: generation.Sifted) -> tuple[generation.State, Any]:
  """The layer's state after the prompts; their keys and values by slot."""
  (state,) = spec.init(_CONFIG, [_prompts()], 2)
  pad = lambda x: np.pad(x, ((0, 0), (0, 8), (0, 0), (0, 0)))
  return state, tuple(map(pad, _tokens(24)[1:]))


def _decoder(spec):
  return jax.jit(
    lambda q, k, v, positions, state: spec.decode(_TABLE)(
      0, q, k, v, positions, state
    )
  )


def _log_scores(q, k, lengths):
  """Log probabilities `[b, h, t]` of one query a row."""
  scores = np.einsum("bhd,bthd->bht", q, np.repeat(k, 2, 2)) / 8**0.5
  live = np.arange(k.shape[1]) < lengths[:, None]
  scores = np.where(live[:, None], scores, -np.inf)
  return jax.nn.log_softmax(jnp.asarray(scores))


@pytest.mark.parametrize(
  ("policy", "always"),
  [
    (rules.Dense(), selection.Always()),
    (_LAW, selection.Always(sinks=2, newest=3)),
    (
      control.Controlled(law.fixed_beta(warmup=3, skip=1), 0.3),
      selection.Always(),
    ),
    (rules.RelativeToMax(1.0), selection.Always(share=0.2)),
    (control.Controlled(rules.RelativeToMax(1.0), 0.3), selection.Always()),
    (rules.TopMass(0.8), selection.Always()),
    (rules.TopK(4), selection.Always(newest=0)),
    (certified.Certified(_LAW, 0.9), selection.Always()),
    selection.streaming_llm(2, 5),
  ],
  ids=lambda x: type(x).__name__ if hasattr(x, "reads") else "",
)
def test_steps_equal_selection_on_whole_rows(policy, always):
  """Trap: what is evaluated and what is run are two algorithms."""
  spec = generation.Sifted(policy, always, prompt_rows=0)
  state, (k, v) = _begin(spec)
  decode = _decoder(spec)
  oracle, kept, mass, rows = policy.init(2, 4), 0, 0, 0
  qs, ks, vs = _tokens(_STEPS)
  pick = jax.jit(
    lambda state, scores, lengths: selection.select(
      policy, state, scores, lengths, always
    )
  )
  for step in range(_STEPS):
    at, one = _PROMPT + step, slice(step, step + 1)
    new = qs[:, one], ks[:, one], vs[:, one]
    out, state = decode(*new, jnp.asarray(at[:, None]), state)
    k[[0, 1], at], v[[0, 1], at] = new[1][:, 0], new[2][:, 0]
    scores = _log_scores(new[0][:, 0], k, at + 1)
    chosen, oracle = pick(oracle, scores, jnp.asarray(at + 1))
    expected = sifting.sift(scores, chosen.keep, jnp.asarray(v))
    np.testing.assert_allclose(out[:, 0], expected, atol=2e-5)
    used = sifting.measure(scores, chosen.keep, jnp.asarray(at + 1), 2)
    kept, mass, rows = kept + used.kept, mass + used.mass, rows + used.rows
  np.testing.assert_array_equal(state.totals.kept, kept)
  np.testing.assert_array_equal(state.totals.rows, rows)
  np.testing.assert_allclose(state.totals.mass, mass, rtol=1e-5)
  assert (state.totals.seen == _STEPS * _PROMPT + 21).all()
  for found, leaf in zip(
    jax.tree.leaves(state.policy), jax.tree.leaves(oracle), strict=True
  ):
    np.testing.assert_allclose(found, leaf, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
  "policy", [rules.Quantile(0.7), law.PowerLaw(warmup=9)], ids=["rule", "law"]
)
def test_queries_together_equal_queries_in_turn(policy):
  """Rules judge each by itself; a law that warms up learns in order."""
  spec = generation.Sifted(policy, prompt_rows=0)
  start, _ = _begin(spec)
  decode = _decoder(spec)
  q, k, v = _tokens(3)
  positions = jnp.asarray(_PROMPT[:, None] + np.arange(3))
  together, after = decode(q, k, v, positions, start)
  state = start
  for i in range(3):
    one = slice(i, i + 1)
    out, state = decode(
      q[:, one], k[:, one], v[:, one], positions[:, one], state
    )
    np.testing.assert_allclose(together[:, one], out, atol=1e-5)
  for a, b in zip(
    jax.tree.leaves(after.policy), jax.tree.leaves(state.policy), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(after.totals.kept, state.totals.kept)
  np.testing.assert_array_equal(after.totals.seen, state.totals.seen)
  # Rows that queries share are read once: fewer than in turn.
  np.testing.assert_array_equal(after.totals.live, _PROMPT + 3)
  assert (after.totals.rows <= after.totals.live[:, None]).all()
  assert (after.totals.rows < state.totals.rows).all()


def test_narrow_queries_are_scaled_after_the_product():
  """As in kernels; 128 ** -0.5 is no bfloat16."""
  make = lambda *shape: jnp.asarray(
    np.random.default_rng(0).standard_normal(shape), jnp.bfloat16
  )
  q, k = 4 * make(1, 1, 4, 128), make(2, 2, 128, 8)
  table, seen = jnp.array([[1, 0]]), jnp.array([[13]])
  pages = cache.Pages(k, k.swapaxes(2, 3))
  found = jax.jit(generation.log_scores)(q, pages, table, seen)
  keys = np.concatenate(np.asarray(k, np.float64)[[1, 0]], axis=-1)
  groups = np.asarray(q, np.float64).reshape(2, 2, 128)
  scores = (groups @ keys).reshape(4, 16)[:, :13] * 128**-0.5
  exact = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
  np.testing.assert_allclose(found[0, 0, :, :13], exact, atol=1e-4)
  assert (found[0, 0, :, 13:] == -jnp.inf).all()


@pytest.fixture(scope="module")
def exact(generate):
  return generate(None)[0]


def test_a_policy_that_keeps_all_generates_the_same(generate, exact):
  found = generate(generation.Sifted(rules.Dense()))[0]
  np.testing.assert_array_equal(found, exact)


def test_exact_layers_stay_exact_and_count_as_dense(generate, exact):
  spec = generation.Sifted(rules.TopK(2), layers=(False, False))
  tokens, states, _ = generate(spec)
  np.testing.assert_array_equal(tokens, exact)
  for state in states:
    np.testing.assert_array_equal(
      state.totals.kept, np.repeat(state.totals.seen[:, None], 4, 1)
    )
    np.testing.assert_allclose(state.totals.mass, 11)
  states = generate(generation.Sifted(rules.TopK(2), layers=(False, True)))[1]
  first, second = (state.totals for state in states)
  assert (first.kept == first.seen[:, None]).all()
  assert (second.kept <= 3 * second.queries[:, None]).all()


def test_trap_08_what_is_dropped_may_be_divided_away_or_not():
  policy = rules.TopK(4)
  outs, masses = [], []
  for renormalise in (True, False):
    spec = generation.Sifted(policy, renormalise=renormalise)
    state, (k, v) = _begin(spec)
    q, new_k, new_v = _tokens(1)
    out, after = _decoder(spec)(
      q, new_k, new_v, jnp.asarray(_PROMPT[:, None]), state
    )
    outs.append(out)
    masses.append(after.totals.mass)
  assert (masses[0] < 0.99).any()
  np.testing.assert_allclose(
    outs[1], outs[0] * masses[0][:, None, :, None], rtol=1e-5
  )
  k[[0, 1], _PROMPT], v[[0, 1], _PROMPT] = new_k[:, 0], new_v[:, 0]
  lengths = jnp.asarray(_PROMPT + 1)
  scores = _log_scores(q[:, 0], k, _PROMPT + 1)
  keep = selection.select(policy, (), scores, lengths)[0].keep
  exact = sifting.sift(scores, keep, jnp.asarray(v), renormalise=False)
  np.testing.assert_allclose(outs[1][:, 0], exact, atol=1e-5)


@pytest.mark.parametrize("newest", [0, 1])
def test_trap_09_an_infinite_threshold_leaves_no_row_empty(newest):
  spec = generation.Sifted(
    rules.PositionOnly(), selection.Always(newest=newest)
  )
  state, _ = _begin(spec)
  q, k, v = _tokens(1)
  positions = jnp.asarray(_PROMPT[:, None])
  out, after = _decoder(spec)(q, k, v, positions, state)
  assert (after.totals.kept == 1).all()
  assert np.isfinite(out).all()
  if newest:
    np.testing.assert_allclose(out, np.repeat(v, 2, 2), rtol=1e-6)


def _assert_alike(state, row, alone):
  """A row of a batch has learnt what it learns alone."""
  for a, b in zip(
    jax.tree.leaves((state.policy, state.totals)),
    jax.tree.leaves((alone.policy, alone.totals)),
    strict=True,
  ):
    np.testing.assert_allclose(a[row], b[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prompt_rows", [0, 8])
def test_trap_12_rows_and_prompts_share_nothing(generate, prompt_rows):
  spec = generation.Sifted(law.PowerLaw(warmup=8), prompt_rows=prompt_rows)
  lengths = (33, 20, 9)  # alone, all have as many pages: one decode step
  tokens, states, generator = generate(spec, lengths, steps=24)
  seen = np.asarray(states[0].policy.seen[:, 0])
  np.testing.assert_array_equal(seen, 8)
  exponents = law.PowerLaw(warmup=8).fitted(states[1].policy)[1]
  assert len(np.unique(exponents)) == 12
  for row, length in enumerate(lengths):  # the generator is used again
    alone, of_row, _ = generate(spec, (length,), steps=24, on=generator)
    np.testing.assert_array_equal(alone[0], tokens[row])
    for state, single in zip(states, of_row, strict=True):
      _assert_alike(state, row, single)


def test_trap_13_the_step_counts_prompt_and_generated_keys():
  """Keys all alike: every quantile is 1 / S, and the law is found exactly."""
  policy = law.PowerLaw(warmup=6)
  spec = generation.Sifted(policy, prompt_rows=0)
  state, _ = _begin(spec)
  zeros = cache.Pages(*(jnp.zeros_like(x) for x in state.pages))
  state = state._replace(pages=zeros)
  decode, (q, k, v) = _decoder(spec), _tokens(1)
  for step in range(6):
    positions = jnp.asarray(_PROMPT[:, None] + step)
    _, state = decode(q, 0 * k, v, positions, state)
  log_alpha, beta = policy.fitted(state.policy)
  np.testing.assert_allclose(beta, 1, atol=2e-5)
  np.testing.assert_allclose(log_alpha, 0, atol=6e-5)
  # A law of 1 / S fits as well where every S is one too small: look at S too.
  steps = _PROMPT[:, None] + 1 + np.arange(6)
  np.testing.assert_array_equal(state.totals.seen, steps.sum(1))
  mean = np.broadcast_to(np.log(steps).mean(1)[:, None], beta.shape)
  np.testing.assert_allclose(state.policy.moments.mean_x, mean, atol=1e-5)


@pytest.mark.parametrize(
  "policy",
  [
    rules.RelativeToMax(),
    law.PowerLaw(warmup=48),
    control.Controlled(law.fixed_beta(warmup=48, skip=8), 0.25),
  ],
  ids=lambda policy: type(policy).__name__,
)
def test_trap_16_500_steps_compile_once_and_never_wait(
  tiny, generate, policy, monkeypatch
):
  """Nor does a step move anything between host and device."""
  spec = generation.Sifted(policy, prompt_rows=8)
  generator = inference.Generator(tiny, attention=spec, page_size=16)
  generator.warm_up(2, prompt_tokens=60, max_tokens=500)
  decode = generator.decode

  def guarded(*args, **named):
    with jax.transfer_guard("disallow"):
      return decode(*args, **named)

  monkeypatch.setattr(generator, "decode", guarded)
  states = generate(spec, (33, 50), steps=500, on=generator)[1]
  assert generator.num_compiled == 2
  assert (states[0].totals.queries == 499).all()
  np.testing.assert_array_equal(
    states[0].totals.seen, [499 * n + 499 * 500 // 2 for n in (33, 50)]
  )


@pytest.fixture
def compiled(tiny):
  """A decode step of a law, whose warm-up reads keys again; and its states."""
  spec = generation.Sifted(law.PowerLaw(warmup=48))
  generator = inference.Generator(tiny, attention=spec, page_size=16)
  pool, table = generator.make_pool(8, 512)
  states = spec.init(tiny.config, pool, 8)
  rows = sampling.rows([sampling.Sampling()] * 8)
  tokens, positions = jnp.zeros(8, jnp.int32), jnp.full(8, 100, jnp.int32)
  step = generator.decode.lower(
    tiny.state, tokens, positions, table, rows, pool=states
  )
  return step.compile(), states


def test_states_are_updated_in_place(compiled):
  step, states = compiled
  for size in {str(x.shape)[1:-1] for x in states[0].pages}:
    shape = size.replace(" ", "")
    pattern = rf"= f32\[{shape}\]\S* (copy|copy-start|transpose)\("
    assert shape in step.as_text()
    assert not re.search(pattern, step.as_text())
  bytes_of_all = sum(x.nbytes for x in jax.tree.leaves(states))
  assert step.memory_analysis().alias_size_in_bytes == bytes_of_all


def test_heads_may_be_split_over_devices(tiny, generate):
  spec = generation.Sifted(law.PowerLaw(warmup=8), implementation="reference")
  split = inference.Generator(
    tiny,
    attention=spec,
    mesh=mesh_lib.make_mesh({"local": 2}),
    rules=model.TENSOR_PARALLEL,
    page_size=16,
  )
  tokens = generate(spec, on=split, steps=24)[0]
  np.testing.assert_array_equal(tokens, generate(spec, steps=24)[0])
  assert split.num_compiled == 2


@pytest.mark.parametrize(
  "policy", [_LAW, rules.RelativeToMax()], ids=["law", "rule"]
)
def test_steps_of_several_queries_lower_for_a_gpu(policy):
  """With the warm-up's branch, and with a threshold from the scores."""
  spec = generation.Sifted(policy, implementation="triton")
  wide = dataclasses.replace(_CONFIG, head_dim=64, dtype="bfloat16")
  pool = cache.make_pool(wide, num_pages=8, page_size=64)
  (state,) = spec.init(wide, pool, 2)
  make = lambda heads: jnp.zeros((2, 3, heads, 64), jnp.bfloat16)
  positions = jnp.asarray(_PROMPT[:, None] + np.arange(3))
  traced = _decoder(spec).trace(make(4), make(2), make(2), positions, state)
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert "__gpu$xla.gpu.triton" in text


def test_bad_specs_are_named():
  with pytest.raises(ValueError, match="prompt_rows must not be negative"):
    generation.Sifted(rules.Dense(), prompt_rows=-1)
  spec = generation.Sifted(rules.Dense(), layers=(True, True))
  with pytest.raises(
    ValueError, match="got 2 entries, expected one for each of the 1 layers"
  ):
    spec.init(_CONFIG, [], 1)
