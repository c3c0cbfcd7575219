"""What the compiled decode step does with memory, read from its HLO."""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from research.inference import generation, sampling

_MOVE = re.compile(r"= \w+\[([\d,]+)\]\S* (copy|copy-start|transpose)\(")


def _compiled(small, batch: int):
  generator = generation.Generator(small)
  pool, table = generator.make_pool(batch, 128)
  arguments = (
    small.state,
    jnp.zeros((batch,), jnp.int32),
    jnp.full((batch,), 100, jnp.int32),
    table,
    sampling.rows([sampling.Sampling()] * batch),
  )
  return generator.decode.lower(*arguments, pool=pool).compile(), pool


@pytest.fixture(scope="module", params=[1, 8])
def compiled(small, request):
  return _compiled(small, request.param)


def test_every_pool_array_is_updated_in_place(compiled):
  step, pool = compiled
  text = step.as_text()
  aliases = re.search(r"input_output_alias=\{(.*?)\}, entry", text, re.S)
  assert aliases, "no input_output_alias in the module"
  arrays = len(jax.tree.leaves(pool))
  assert aliases[1].count("-alias") == arrays
  pool_bytes = sum(x.nbytes for x in jax.tree.leaves(pool))
  assert step.memory_analysis().alias_size_in_bytes == pool_bytes


def test_nothing_as_large_as_a_pool_or_a_weight_is_copied(compiled, small):
  step, pool = compiled
  weights = [x.size for x in jax.tree.leaves(small.state) if x.ndim > 1]
  large = min(*weights, *(x.size for x in jax.tree.leaves(pool)))
  moved = [
    match[0]
    for match in _MOVE.finditer(step.as_text())
    if math.prod(map(int, match[1].split(","))) >= large
  ]
  assert not moved


def test_scratch_memory_is_smaller_than_one_weight(compiled, small):
  step, _ = compiled
  largest = max(x.nbytes for x in jax.tree.leaves(small.state))
  assert step.memory_analysis().temp_size_in_bytes < largest
