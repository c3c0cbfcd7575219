"""Teacher-forced windows against decoding them step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.systems.sift_attention import (
  generation,
  selection,
  sifting,
  teacher_forced,
)
from research.systems.sift_attention.policies import control, law, rules
from research.transformer import cache, decoder
from research.transformer import config as config_lib

SIZE = 140  # more than one block of rows
EXACT = 24
HEADS, KV_HEADS, WIDTH = 4, 2, 8
ALWAYS = selection.Always()
POLICIES = {
  "power law": (law.PowerLaw(0.75, warmup=16), ALWAYS),
  "controlled": (control.Controlled(law.fixed_beta(0.75, 16, 8), 0.25), ALWAYS),
  "relative": (rules.RelativeToMax(2.0), ALWAYS),
  "quantile": (rules.Quantile(0.75), selection.Always(sinks=2)),
  "top mass": (rules.TopMass(0.8), ALWAYS),
  "streaming": selection.streaming_llm(sinks=2, share=0.2),
}


def _heads(batch=1, scale=1.0, seed=0):
  keys = jax.random.split(jax.random.key(seed), 3)
  q = 2 * scale * jax.random.normal(keys[0], (batch, SIZE, HEADS, WIDTH))
  k, v = (
    jax.random.normal(key, (batch, SIZE, KV_HEADS, WIDTH)) for key in keys[1:]
  )
  return q, k, v


def _attend(spec, q, k, v):
  positions = jnp.tile(jnp.arange(SIZE), (len(q), 1))
  return spec(0, q, k, v, positions, None)


def _by_steps(spec, q, k, v):
  """Each row alone: exact scores, selection, attention to what is kept."""
  batch = q.shape[0]

  @jax.jit
  def step(state, number):
    rows = q[:, number].reshape(batch, KV_HEADS, -1, WIDTH) / WIDTH**0.5
    scores = jnp.einsum("bkgd,btkd->bkgt", rows, k).reshape(batch, HEADS, SIZE)
    seen = jnp.arange(SIZE)[None, None] <= number
    scores = jax.nn.log_softmax(jnp.where(seen, scores, -jnp.inf))
    lengths = jnp.full(batch, number + 1)
    chosen, state = selection.select(
      spec.policy, state, scores, lengths, spec.always
    )
    keep = (chosen.keep | (number < spec.exact_steps)) & seen
    out = sifting.sift(scores, keep, v, renormalise=spec.renormalise)
    return state, out, sifting.measure(scores, keep, lengths, KV_HEADS), keep

  state, outs, counts, keeps = spec.policy.init(batch, HEADS), [], [], []
  for number in range(SIZE):
    state, out, counted, keep = step(state, number)
    outs.append(out)
    counts.append(counted)
    keeps.append(keep)
  stack = lambda parts: np.stack([np.asarray(part) for part in parts])
  return (
    np.moveaxis(stack(outs), 0, 1),
    jax.tree.map(lambda *parts: stack(parts), *counts),
    np.moveaxis(stack(keeps), 0, 2),
  )


@pytest.mark.parametrize("name", POLICIES)
def test_equals_decoding_step_by_step(name):
  policy, always = POLICIES[name]
  spec = teacher_forced.TeacherForced(policy, always, exact_steps=EXACT)
  heads = _heads()
  out, counts = _attend(spec, *heads)
  expected, steps, _ = _by_steps(spec, *heads)
  np.testing.assert_allclose(out, expected, atol=2e-6)
  late = steps.lengths[:, 0] > EXACT
  np.testing.assert_array_equal(counts.kept, steps.kept[late].sum(0))
  np.testing.assert_array_equal(counts.rows[..., 0], steps.rows[late].sum(0))
  np.testing.assert_allclose(counts.mass, steps.mass[late].sum(0), rtol=1e-5)


@pytest.mark.parametrize("renormalise", [False, True])
def test_trap_08_the_kept_mass_divides_or_does_not(renormalise):
  spec = teacher_forced.TeacherForced(
    rules.TopK(3), exact_steps=EXACT, renormalise=renormalise
  )
  heads = _heads()
  np.testing.assert_allclose(
    _attend(spec, *heads)[0], _by_steps(spec, *heads)[0], atol=2e-6
  )
  weights = _attend(spec, *heads[:2], jnp.ones_like(heads[2]))[0][:, EXACT:]
  if renormalise:
    np.testing.assert_allclose(weights, 1, rtol=1e-5)
  else:
    assert (np.asarray(weights) < 0.99).any()


def test_trap_11_budgets_exclude_exact_rows():
  """Exact rows are whole, and neither they nor the prompt count."""
  spec = teacher_forced.TeacherForced(rules.TopK(1), prompt=10, exact_steps=20)
  _, counts = _attend(spec, *_heads())
  assert int(counts.live) == sum(range(31, SIZE + 1))
  assert (np.asarray(counts.kept) <= 2 * (SIZE - 30)).all()  # and the newest


@pytest.mark.parametrize("name", ["power law", "controlled"])
def test_trap_12_states_do_not_leak(name):
  """Neither into neighbours in the batch nor into the next window."""
  spec = teacher_forced.TeacherForced(*POLICIES[name], exact_steps=EXACT)
  q, k, v = _heads(batch=2)
  both, counts = _attend(spec, q, k, v)
  for row in (1, 0):
    alone, own = _attend(spec, *(x[row : row + 1] for x in (q, k, v)))
    np.testing.assert_allclose(alone[0], both[row], atol=2e-6)
    np.testing.assert_array_equal(own.kept[0], counts.kept[row])


@pytest.mark.parametrize("name", ["power law", "controlled", "streaming"])
def test_trap_06_peaked_heads_stay_finite(name):
  """Scores that underflow in float32 give no NaN and no empty row."""
  policy, always = POLICIES[name]
  spec = teacher_forced.TeacherForced(policy, always, exact_steps=EXACT)
  out, counts = _attend(spec, *_heads(scale=200.0))
  assert np.isfinite(out).all()
  assert np.isfinite(counts.mass).all()
  assert (np.asarray(counts.kept) >= SIZE - EXACT).all()


def test_trap_10_rows_are_counted_after_the_union_and_by_blocks():
  spec = teacher_forced.TeacherForced(
    *POLICIES["quantile"], exact_steps=EXACT, blocks=(1, 16, 64)
  )
  heads = _heads()
  _, counts = _attend(spec, *heads)
  keep = _by_steps(spec, *heads)[2][0, :, EXACT:]  # [head, row, key]
  for group in range(KV_HEADS):
    read = keep[2 * group] | keep[2 * group + 1]
    for index, by in enumerate(spec.blocks):
      total = 0
      for step in range(EXACT + 1, SIZE + 1):
        row = read[step - EXACT - 1]
        for start in range(0, step, by):
          stop = min(start + by, step)
          total += (stop - start) * row[start:stop].any()
      assert int(counts.rows[0, group, index]) == total
  assert (counts.rows[..., 0] > counts.kept.reshape(1, 2, 2).max(-1)).all()


@pytest.fixture(scope="module")
def model():
  config = config_lib.DecoderConfig(
    vocab_size=32,
    embed_dim=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=16,
    context_length=64,
  )
  return config, *nnx.split(decoder.Decoder(config, nnx.Rngs(0)))


@pytest.mark.parametrize(
  ("policy", "rows"),
  [
    (law.PowerLaw(0.75, warmup=6), 0),
    (law.PowerLaw(0.75, warmup=6), 6),
    (control.Controlled(law.fixed_beta(0.75, 6, 2), 0.25), 0),
  ],
)
def test_equals_generation_after_a_prompt(model, policy, rows):
  """The same hidden states as prefill and single steps over a paged cache."""
  config, graph, weights = model
  prompt, size = 24, 44
  # With these tokens no score is within rounding of its threshold.
  tokens = jax.random.randint(jax.random.key(2), (1, size), 0, 32)
  spec = teacher_forced.TeacherForced(
    policy, exact_steps=0, prompt=prompt, prompt_rows=rows
  )

  sifted = generation.Sifted(policy, prompt_rows=rows)
  table = cache.contiguous_table(1, tokens=size, page_size=16)
  pool = cache.make_pool(config, num_pages=3, page_size=16)

  @functools.partial(jax.jit, static_argnums=0)
  def run(attend, weights, tokens, **named):
    bound = nnx.merge(graph, weights)
    return bound(tokens, attention=attend(), **named)

  forced = run(lambda: spec, weights, tokens).hidden[:, prompt:]
  begin = lambda: sifted.prefill(table, jnp.array([prompt]))
  fresh = sifted.init(config, pool, 1)
  states = run(begin, weights, tokens[:, :prompt], states=fresh).states
  decode, hidden = lambda: sifted.decode(table), []
  for place in range(prompt, size):
    position = jnp.array([[place]])
    token = tokens[:, place : place + 1]
    out = run(decode, weights, token, positions=position, states=states)
    states = out.states
    hidden.append(out.hidden)
  np.testing.assert_allclose(
    forced, jnp.concatenate(hidden, axis=1), atol=1e-5, rtol=1e-5
  )


def test_trap_05_a_law_from_the_first_steps_after_a_prompt():
  """It may miss its budget by far, but rows of the prompt mend it."""
  q, k, v = _heads()
  make = lambda rows: teacher_forced.TeacherForced(
    law.PowerLaw(0.75, warmup=8), exact_steps=8, prompt=96, prompt_rows=rows
  )
  miss = {}
  for rows in (0, 8):
    _, counts = _attend(make(rows), q, k, v)
    share = np.asarray(counts.kept) / int(counts.live)
    assert ((share > 0) & (share <= 1)).all()
    miss[rows] = np.abs(share - 0.25).max()
  assert miss[8] < miss[0]
  assert miss[8] < 0.15


def test_rows_of_no_prompt_are_refused():
  with pytest.raises(ValueError, match="prompt_rows needs a prompt, got 4"):
    teacher_forced.TeacherForced(law.PowerLaw(), prompt_rows=4)
