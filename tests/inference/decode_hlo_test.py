"""What compiled steps do with memory, read from their HLO.

Of the generator's decode step, and of the engine's steps with and without
pieces of prompts.
"""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from research.inference import batch as batch_lib
from research.inference import generation, runner, sampling

_MOVE = re.compile(r"= \w+\[([\d,]+)\]\S* (copy|copy-start|transpose)\(")


def _decode(small, batch: int):
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


def _step(small, rows: int, blocks: int):
  sizes = batch_lib.Sizes(
    block=16, pages=4, num_pages=32, slots=rows, vocab=2048
  )
  shape = batch_lib.Shape(rows, blocks)
  steps = runner.Runner(small, sizes, 64, [shape])
  return steps.compiled(shape), steps._carried


_STEPS = {
  "decode-1": lambda small: _decode(small, 1),
  "decode-8": lambda small: _decode(small, 8),
  "engine-8": lambda small: _step(small, 8, 0),
  "engine-8-and-32-of-prompts": lambda small: _step(small, 8, 2),
}


@pytest.fixture(scope="module", params=_STEPS)
def compiled(small, request):
  return _STEPS[request.param](small)


def test_trap_12_every_pool_array_is_updated_in_place(compiled):
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
  arrays = jax.tree.leaves((small.state, pool))
  large = min(x.size for x in arrays if x.ndim > 1)
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
