"""Generation: the same text however it is batched, paged and laid out."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import mesh as mesh_lib
from research.inference import cached, generation, sampling
from research.transformer import attention
from research.transformer.checkpoints import model

_STEPS = 12
_PROMPT = "The capital of France is the city of"
_OTHERS = (
  "Once upon a time",
  "def fibonacci(n):\n",
  "To be, or not to be, that is the question:",
  "1, 2, 3, 4,",
  "Water boils at",
  "The quick brown fox jumps over the lazy dog, and then it goes on to",
  "A",
)
_GREEDY = sampling.Sampling()


def _generate(generator, prompts, steps=_STEPS, settings=None) -> np.ndarray:
  settings = settings or [_GREEDY] * len(prompts)
  stream = generator.stream(prompts, settings, max_tokens=steps)
  return np.stack(list(stream), axis=1)


@pytest.fixture(scope="module")
def prompt(smollm2_words) -> list[int]:
  return smollm2_words.encode(_PROMPT)


@pytest.fixture(scope="module")
def smollm2_alone(smollm2, prompt) -> np.ndarray:
  return _generate(generation.Generator(smollm2), [prompt])[0]


def test_smollm2_knows_the_answer(smollm2_alone, smollm2_words):
  assert "Paris" in smollm2_words.decode(smollm2_alone.tolist())


def test_greedy_text_is_the_same_in_a_ragged_batch(
  smollm2, smollm2_words, smollm2_alone, prompt
):
  prompts = [smollm2_words.encode(text) for text in _OTHERS]
  prompts.insert(4, prompt)
  assert len({len(p) for p in prompts}) > 4
  together = _generate(generation.Generator(smollm2), prompts)
  np.testing.assert_array_equal(together[4], smollm2_alone)


@pytest.mark.parametrize(
  "devices", [1, 2, pytest.param(8, marks=pytest.mark.slow)]
)
def test_greedy_text_is_the_same_on_devices(
  smollm2, smollm2_alone, prompt, devices
):
  generator = generation.Generator(
    smollm2,
    mesh=mesh_lib.make_mesh({"local": devices}),
    rules=model.TENSOR_PARALLEL,
  )
  found = _generate(generator, [prompt])[0]
  np.testing.assert_array_equal(found, smollm2_alone)


@pytest.fixture(scope="module")
def generator(small) -> generation.Generator:
  return generation.Generator(small)


def _prompts(*lengths: int) -> list[list[int]]:
  rng = np.random.default_rng(0)
  return [rng.integers(0, 2048, n).tolist() for n in lengths]


def test_greedy_tokens_are_those_without_a_cache(small, generator):
  (prompt,) = _prompts(5)

  @jax.jit
  def best(state, tokens, last):
    decoder = small.bind(state)
    return decoder.logits(decoder(tokens).hidden)[0, last].argmax()

  row = np.zeros(32, np.int32)
  row[:5] = prompt
  for end in range(5, 20):
    row[end] = best(small.state, jnp.asarray(row[None]), end - 1)
  np.testing.assert_array_equal(
    _generate(generator, [prompt], steps=15)[0], row[5:20]
  )


def test_rows_do_not_influence_one_another(generator):
  prompts = _prompts(3, 31, 12, 1)
  settings = [
    _GREEDY,
    sampling.Sampling(temperature=1.0, seed=1),
    sampling.Sampling(temperature=0.8, top_k=40, seed=2),
    sampling.Sampling(temperature=1.2, top_p=0.9, seed=3),
  ]
  together = _generate(generator, prompts, settings=settings)
  for row in range(4):
    alone = _generate(generator, [prompts[row]], settings=[settings[row]])
    np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("page_size", [8, 128])
def test_pages_may_have_any_size(small, generator, page_size):
  prompts = _prompts(3, 31, 12, 1)
  other = generation.Generator(small, page_size=page_size)
  np.testing.assert_array_equal(
    _generate(other, prompts), _generate(generator, prompts)
  )


def test_tensors_may_be_split_over_nodes_and_devices(small, generator):
  split = generation.Generator(
    small,
    mesh=mesh_lib.make_mesh({"node": 2, "local": 2}),
    rules=model.TENSOR_PARALLEL,
  )
  prompts = _prompts(3, 31, 12, 1)
  np.testing.assert_array_equal(
    _generate(split, prompts), _generate(generator, prompts)
  )


@pytest.mark.parametrize("devices", [None, 2])
def test_nothing_is_compiled_after_warm_up(small, compilations, devices):
  mesh = devices and mesh_lib.make_mesh({"local": devices})
  generator = generation.Generator(
    small, mesh=mesh, rules=model.TENSOR_PARALLEL
  )
  generator.warm_up(2, prompt_tokens=20, max_tokens=24)
  assert compilations
  assert generator.num_compiled == 2
  compilations.clear()
  hot = sampling.Sampling(temperature=1.0, top_k=3, top_p=0.9, seed=4)
  for lengths, choices in (((20, 3), [_GREEDY] * 2), ((9, 32), [hot, _GREEDY])):
    _generate(generator, _prompts(*lengths), steps=24, settings=choices)
  assert not compilations
  assert generator.num_compiled == 2


def test_each_step_is_traced_once(small):
  generator = generation.Generator(small)
  for name in ("prefill", "decode"):
    once = chex.assert_max_traces(getattr(generator, f"_{name}"), n=1)
    setattr(generator, name, jax.jit(once, donate_argnames="pool"))
  for lengths in ((20, 3), (9, 32)):
    _generate(generator, _prompts(*lengths), steps=24)


def test_the_pool_is_donated(generator, small):
  pool, table = generator.make_pool(1, 64)
  rows = sampling.rows([_GREEDY])
  _, following = generator.prefill(
    small.state,
    jnp.zeros((1, 32), jnp.int32),
    jnp.array([3], jnp.int32),
    table,
    rows,
    pool=pool,
  )
  assert all(x.is_deleted() for x in jax.tree.leaves(pool))
  assert not any(x.is_deleted() for x in jax.tree.leaves(following))


def test_timing_counts_steps(generator):
  timing = generation.Timing()
  stream = generator.stream(_prompts(4), [_GREEDY], max_tokens=6, timing=timing)
  assert len(list(stream)) == 6
  assert timing.steps == 5  # the first token comes from the prompt
  assert timing.prefill_s > 0
  assert timing.decode_s > 0


@pytest.mark.parametrize("taken", [0, 2, 6])
def test_the_last_states_come_at_the_end(generator, taken):
  """Also of an iterator that is closed early, once it was started."""
  ends = []
  stream = generator.stream(
    _prompts(4), [_GREEDY], max_tokens=6, at_end=ends.append
  )
  for _ in zip(range(taken), stream, strict=False):
    pass
  stream.close()
  assert len(ends) == (taken > 0)
  for states in ends:
    assert not any(x.is_deleted() for x in jax.tree.leaves(states))


class _Counting:
  """Exact attention that counts its decode steps."""

  exact, reads_prompts = True, False

  def init(self, config, pool, batch):
    return [(pages, jnp.zeros(batch, jnp.int32)) for pages in pool]

  def prefill(self, table, lengths):
    return _Counted(cached.Dense().prefill(table, lengths), 0)

  def decode(self, table):
    return _Counted(cached.Dense().decode(table), 1)


@dataclasses.dataclass(frozen=True)
class _Counted:
  exact: attention.Attention
  more: int

  def __call__(self, layer, q, k, v, positions, state):
    pages, count = state
    out, pages = self.exact(layer, q, k, v, positions, pages)
    return out, (pages, count + self.more)


def test_attention_may_remember_more_and_starts_afresh(small, generator):
  counting = generation.Generator(small, attention=_Counting())
  for lengths in ((5, 3), (2, 4)):
    ends = []
    stream = counting.stream(
      _prompts(*lengths), [_GREEDY] * 2, max_tokens=6, at_end=ends.append
    )
    tokens = np.stack(list(stream), axis=1)
    expected = _generate(generator, _prompts(*lengths), steps=6)
    np.testing.assert_array_equal(tokens, expected)
    assert [state[1].tolist() for state in ends[0]] == [[5, 5]] * 2
  assert counting.num_compiled == 2


def test_one_token_needs_no_decode_step(generator):
  assert _generate(generator, _prompts(4), steps=1).shape == (1, 1)


def test_the_whole_context_can_be_filled(generator):
  tokens = _generate(generator, _prompts(250), steps=6)
  assert tokens.shape == (1, 6)


@pytest.mark.parametrize("rows", [([],), ([5], [])])
def test_an_empty_prompt_is_refused(generator, rows):
  with pytest.raises(
    generation.PromptError,
    match="empty prompt: got 0 tokens, expected at least 1",
  ):
    _generate(generator, list(rows))


def test_a_prompt_over_the_context_is_refused(generator):
  with pytest.raises(
    generation.PromptError,
    match="prompt over the context: got 250 tokens and max_tokens=7, expected "
    "at most 256 together; shorten the prompt or lower max_tokens",
  ):
    _generate(generator, _prompts(3, 250), steps=7)
