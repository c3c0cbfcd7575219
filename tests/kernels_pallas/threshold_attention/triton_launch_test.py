"""Launch shapes, and what the kernels refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import implementations
from kernels_pallas.threshold_attention import (
  triton,
  triton_launch,
  triton_one_pass,
)
from tests.kernels_pallas.threshold_attention import cases

_KERNELS = pytest.mark.parametrize(
  "attend", [triton.attend, triton_one_pass.attend], ids=["two", "one"]
)


def test_rows_fold_queries_and_group_and_unfold_again():
  rows = triton_launch.Rows(queries=2, kv_heads=3, group=4)
  x = jnp.arange(5 * 2 * 12 * 7).reshape(5, 2, 12, 7)
  folded = rows.fold(x)
  assert folded.shape == (5, 3, 16, 7)
  np.testing.assert_array_equal(folded[1, 2, 4 + 1], x[1, 1, 2 * 4 + 1])
  assert not folded[:, :, 8:].any()
  np.testing.assert_array_equal(rows.unfold(folded), x)
  of_query = rows.repeat(jnp.array([[6, 7]]))
  assert of_query.tolist() == [[6] * 4 + [7] * 4 + [0] * 8]


@_KERNELS
def test_trap_14_offsets_beyond_32_bits_are_refused(attend):
  like = jax.ShapeDtypeStruct
  pages = 2**31 // (8 * 64 * 128)
  args = (
    like((1, 1, 32, 128), jnp.bfloat16),
    like((pages, 8, 128, 64), jnp.bfloat16),
    like((pages, 8, 64, 128), jnp.bfloat16),
    like((1, 512), jnp.int32),
    like((1,), jnp.int32),
    like((1, 1, 32), jnp.float32),
    like((1, 1), jnp.int32),
  )
  message = "got a pool of 2147483648 and scores of .* divide the pool"
  with pytest.raises(implementations.UnsupportedError, match=message):
    jax.eval_shape(functools.partial(attend, scale=1.0, sinks=0), *args)


@_KERNELS
@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"width": 24}, "got head_dim 24, expected a power of two from 16"),
    ({"page": 24}, "got block 24 for pages of 24, expected a power of two"),
    ({"page": 8}, "got block 8 for pages of 8, expected a power of two"),
    ({"queries": 33}, "got 33 queries of groups of 2, expected at most 64"),
  ],
)
def test_sizes_that_do_not_lower_are_refused(attend, change, message):
  case = cases.make([40], **change)
  with pytest.raises(implementations.UnsupportedError, match=message):
    attend(*case, scale=1.0, sinks=0, interpret=True)


def test_configurations_fill_a_gpu():
  pick = functools.partial(triton_launch.config_for, rows=16, width=128)
  few = pick(8, tokens=131072, page_size=128)
  many = pick(512, tokens=131072, page_size=128)
  short = pick(8, tokens=300, page_size=32)
  assert (few.splits, many.splits, short.splits) == (32, 1, 1)
  assert (few.block, short.block) == (64, 32)
