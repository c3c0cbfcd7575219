"""How many rows one pass loads beyond two, on a language model's own scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas.threshold_attention import (
  triton,
  triton_launch,
  triton_one_pass,
)
from research.data import artifacts, texts
from research.transformer import decoder

_TOKENS, _PAGE, _LAYERS, _RULES = 1000, 64, (3, 15), 3


@pytest.fixture(scope="module")
def rotated(smollm2, smollm2_words):
  """Queries and keys of some layers, `[tokens, head, d]`, on a real text."""
  try:
    text = texts.load("britannica/shakespeare", progress=False)
  except artifacts.ArtifactError as error:
    pytest.skip(str(error))
  tokens = np.asarray(smollm2_words.encode(text[:6000]))[:_TOKENS]
  assert len(tokens) == _TOKENS
  taps = decoder.Taps(attention=lambda q, k: (q[0], k[0]))

  @jax.jit
  def run(state, tokens):
    found = smollm2.bind(state)(tokens[None], taps=taps).attention_taps
    return [found[layer] for layer in _LAYERS]

  return [(np.array(q), np.array(k)) for q, k in run(smollm2.state, tokens)]


def _law(q, k, level, scale):
  """A power law fitted to quantiles of earlier rows, at the last one."""
  steps = np.unique(np.geomspace(16, _TOKENS - 1, 32).astype(int))
  found = []
  for step in steps:
    scores = k[:step] @ q[step - 1] * scale
    quantile = np.quantile(scores, level) - np.logaddexp.reduce(scores)
    found.append(quantile)
  slope, start = np.polyfit(np.log(steps), found, 1)
  return start + slope * np.log(_TOKENS)


def _relative(q, k, scale):
  """A share of 4 / S of the highest score."""
  scores = k @ q[-1] * scale
  highest = scores.max() - np.logaddexp.reduce(scores)
  return highest + np.log(4 / _TOKENS)


def _thresholds(q, k, scale):
  group = q.shape[1] // k.shape[1]
  rules = (
    lambda q, k: _relative(q, k, scale),
    lambda q, k: _law(q, k, 0.75, scale),
    lambda q, k: _law(q, k, 0.875, scale),
  )
  heads = [(q[:, h], k[:, h // group]) for h in range(q.shape[1])]
  return [[[rule(*head) for head in heads]] for rule in rules]


@pytest.mark.parametrize("splits", [1, 4])
def test_one_pass_loads_at_most_1_15_times_the_rows(rotated, splits):
  scale = rotated[0][0].shape[-1] ** -0.5
  config = triton_launch.Config(block=_PAGE, splits=splits)
  loaded = []
  for attend in (triton.attend, triton_one_pass.attend):
    run = jax.jit(
      functools.partial(
        attend, scale=scale, sinks=0, config=config, interpret=True
      )
    )
    rows = [run(*_case(q, k, scale)).rows.sum(-1) for q, k in rotated]
    loaded.append(np.sum(rows, axis=0))
  exact, ours = loaded
  print(f"\nrows of two passes {exact}, of one {ours}, ratio {ours / exact}")
  assert (ours >= exact).all()
  assert (ours <= 1.15 * exact).all()
  assert (exact < 0.6 * _TOKENS * 3 * len(_LAYERS)).all()


def _case(q, k, scale):
  """Rows of the same keys, a rule for thresholds each."""
  pages = -(-_TOKENS // _PAGE)
  padded = np.pad(k, ((0, pages * _PAGE - _TOKENS), (0, 0), (0, 0)))
  pool = padded.reshape(pages, _PAGE, *k.shape[1:])
  pool = jnp.asarray(pool.transpose(0, 2, 3, 1))
  repeat = lambda x: jnp.asarray(np.stack([x] * _RULES))
  return (
    repeat(q[-1:]),
    pool,
    pool.transpose(0, 1, 3, 2),
    repeat(np.arange(pages, dtype=np.int32)),
    jnp.full((_RULES,), _TOKENS),
    jnp.asarray(_thresholds(q, k, scale), jnp.float32),
    jnp.full((_RULES, 1), _TOKENS - 1),
  )
