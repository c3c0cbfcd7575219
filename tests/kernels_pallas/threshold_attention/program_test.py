"""A decode step around the kernels, compiled whole for an H100."""

import math

import jax
import jax.numpy as jnp

from kernels_pallas import testing
from kernels_pallas.threshold_attention import api, shapes

_SHAPE = shapes.Shape("llama-3-8b-8k", 16, 32, 8, 128, 8192)


def _step(k_pages, v_pages, k, v, q, *rest):
  """Writes a token's keys and values, and attends."""
  k_pages = k_pages.at[0, :, :, 7].set(k)
  v_pages = v_pages.at[0, :, 7].set(v)
  table, lengths, log_threshold, window_start = rest
  done = api.threshold_attention(
    q,
    k_pages,
    v_pages,
    table,
    lengths,
    log_threshold,
    window_start=window_start,
    implementation="triton",
  )
  return k_pages, v_pages, done


def test_the_pool_is_neither_copied_nor_held_twice():
  q, k_pages, v_pages, *rest = _SHAPE.arguments()
  token = jax.ShapeDtypeStruct((_SHAPE.kv_heads, _SHAPE.head_dim), q.dtype)
  step = jax.jit(_step, donate_argnums=(0, 1))
  program = testing.assert_compiles(
    step, k_pages, v_pages, token, token, q, *rest
  )
  kernels = [x for x in program.instructions("custom-call") if "triton" in x]
  assert len(kernels) == 2
  pools = 2 * math.prod(k_pages.shape) * k_pages.dtype.itemsize
  assert program.alias_bytes == pools
  sizes = [str(list(x.shape)).replace(" ", "") for x in (k_pages, v_pages)]
  copies = program.instructions("copy") + program.instructions("copy-start")
  assert not [x for x in copies if any(size in x for size in sizes)]
  # What it needs besides is the scores, for 16 rows where a group has 4.
  scores = _SHAPE.batch * _SHAPE.kv_heads * 16 * _SHAPE.tokens
  assert program.temp_bytes < 1.1 * scores * jnp.dtype("float32").itemsize
  print(f"\n{_SHAPE.name}: {program.temp_bytes} bytes beside the arguments")
