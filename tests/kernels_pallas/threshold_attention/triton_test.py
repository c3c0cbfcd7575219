"""The Triton kernels, interpreted: results, kept sets, and rows not read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import testing
from kernels_pallas.threshold_attention import reference, result, triton
from tests.kernels_pallas.threshold_attention import cases

_SCALE = 0.25
_SMALL = triton.Config(block=16, splits=2)


def _kernel(config=_SMALL):
  attend = functools.partial(
    triton.attend, scale=_SCALE, config=config, interpret=True
  )
  return jax.jit(attend)


_REFERENCE = jax.jit(functools.partial(reference.attend, scale=_SCALE))


def _kept_sets(kernel, args):
  """Which values reach each head's output: those whose change changes it.

  Values are made one-hot over tokens, so that an output lists its weights.
  """
  q, k, v, table, lengths, threshold = args
  tokens = table.shape[1] * v.shape[2]
  width = q.shape[2]
  sets = [set() for _ in range(q.shape[0] * q.shape[1])]
  for start in range(0, tokens, width):
    row = np.arange(tokens)[:, None] == start + np.arange(width)[None, :]
    pool = np.zeros(v.shape, v.dtype)
    for pages in np.asarray(table):
      pool[pages] = row.reshape(-1, 1, v.shape[2], width)
    out = kernel(q, k, jnp.asarray(pool), table, lengths, threshold).out
    for i, weights in enumerate(np.asarray(out).reshape(-1, width)):
      sets[i] |= set((start + np.flatnonzero(weights)).tolist())
  return [frozenset(found) for found in sets]


@pytest.mark.parametrize("length", [1, 15, 33, 255, 2500])
def test_any_length(length):
  """A length that no block divides, and one below a block."""
  args = cases.make([length], heads=(2, 1), page=64, log_threshold=-7.0)
  testing.assert_matches_reference(_kernel(), _REFERENCE, args, rtol=1e-5)


@pytest.mark.parametrize(
  "heads", [(9, 3), (32, 8), (4, 1)], ids=["9/3", "32/8", "mqa"]
)
def test_grouped_heads(heads):
  args = cases.make([50, 97], heads=heads)
  testing.assert_matches_reference(_kernel(), _REFERENCE, args, rtol=1e-5)


@pytest.mark.parametrize("heads", [(9, 3), (4, 1)], ids=["9/3", "mqa"])
def test_bfloat16_is_near_the_same_numbers_in_float32(heads):
  args = cases.make([50, 97], heads=heads, dtype=jnp.bfloat16)
  q, k, v = (x.astype(jnp.float32) for x in args[:3])
  exact = _REFERENCE(q, k, v, *args[3:])
  got = _kernel()(*args)
  assert got.out.dtype == jnp.bfloat16
  # The second part is the rounding of the output itself.
  rtol = 2e-3 + 2.0**-8
  values = lambda attended: lambda: attended.out.astype(jnp.float32)
  testing.assert_matches_reference(values(got), values(exact), (), rtol=rtol)
  others = lambda attended: lambda: attended[1:]
  testing.assert_matches_reference(others(got), others(exact), (), rtol=1e-5)


def test_reference_is_the_definition():
  args = cases.make([1, 33, 70], log_threshold=-4.0)
  out, kept = cases.definition(args, _SCALE)
  got = _REFERENCE(*args)
  np.testing.assert_allclose(got.out, out, rtol=0, atol=1e-5)
  assert got.kept.ravel().tolist() == [len(tokens) for tokens in kept]
  assert len(kept[-1]) < 70
  assert got.rows[0].tolist() == [1, 1]


@pytest.mark.parametrize("block", [16, 32])
@pytest.mark.parametrize("splits", [1, 2, 8, 16])
def test_kept_set_is_the_definition_s(block, splits):
  """Whatever the launch shape; a split's own softmax would keep others."""
  args = cases.make([70, 129], log_threshold=-4.5)
  _, expected = cases.definition(args, _SCALE)
  kernel = _kernel(triton.Config(block=block, splits=splits))
  assert _kept_sets(kernel, args) == expected
  assert kernel(*args).kept.ravel().tolist() == [len(x) for x in expected]


def test_splits_do_not_change_lse_by_a_bit():
  args = cases.make([500, 129], log_threshold=-4.5)
  lse = [
    np.asarray(_kernel(triton.Config(block=16, splits=n))(*args).lse)
    for n in (1, 2, 8, 16)
  ]
  for other in lse[1:]:
    np.testing.assert_array_equal(lse[0], other)


def test_minus_infinity_is_dense():
  args = cases.make([40, 97], log_threshold=-np.inf)
  got = _kernel()(*args)
  q, k, v, table, lengths, _ = args
  flat = lambda x, axes: x[table].transpose(axes).reshape(2, -1, 2, 16)
  dense = jax.nn.dot_product_attention(
    q[:, None],
    flat(k, (0, 1, 4, 2, 3)),
    flat(v, (0, 1, 3, 2, 4)),
    key_value_seq_lengths=lengths,
    scale=_SCALE,
  )
  np.testing.assert_allclose(got.out, dense[:, 0], rtol=0, atol=1e-5)
  assert got.kept.tolist() == [[40] * 4, [97] * 4]
  assert got.rows.tolist() == [[40] * 2, [97] * 2]
  np.testing.assert_allclose(got.mass, 1.0, rtol=1e-6)


def test_infinity_keeps_the_newest_and_the_highest():
  args = cases.make([15, 97], log_threshold=np.inf)
  got = _kernel()(*args)
  out, kept = cases.definition(args, _SCALE)
  assert {len(tokens) for tokens in kept} <= {1, 2}
  assert got.kept.ravel().tolist() == [len(tokens) for tokens in kept]
  np.testing.assert_allclose(got.out, out, rtol=0, atol=1e-5)


def test_peaked_heads():
  """All mass on one token: other weights underflow, and nothing is NaN."""
  args = cases.make([97, 33], gain=400.0, log_threshold=-8.0)
  testing.assert_matches_reference(_kernel(), _REFERENCE, args, rtol=1e-5)
  got = _kernel()(*args)
  assert int(got.kept.min()) <= 2
  assert all(bool(jnp.isfinite(x).all()) for x in got)


def test_thresholds_are_per_head():
  q, k, v, table, lengths, _ = cases.make([97], heads=(4, 2))
  threshold = jnp.array([[-np.inf, np.inf, -4.0, -5.0]])
  args = q, k, v, table, lengths, threshold
  got = _kernel()(*args)
  testing.assert_matches_reference(_kernel(), _REFERENCE, args, rtol=1e-5)
  assert got.kept[0, 0] == 97
  assert got.kept[0, 1] <= 2
  assert got.rows[0, 0] == 97


def test_ragged_batch_equals_single_runs():
  args = cases.make([1, 64, 33, 200])
  together = _kernel()(*args)
  for row in range(4):
    alone = _kernel()(*cases.one_row(args, row))
    for ours, theirs in zip(together, alone, strict=True):
      np.testing.assert_array_equal(ours[row], theirs[0])


def test_an_idle_row_gives_zeros():
  q, k, v, table, _, threshold = cases.make([40, 40])
  args = q, k, v, table, jnp.array([0, 40]), threshold
  testing.assert_matches_reference(_kernel(), _REFERENCE, args, rtol=1e-5)
  got = _kernel()(*args)
  assert not got.out[0].any()
  assert got.lse[0].tolist() == [-np.inf] * 4
  assert got.rows.tolist()[0] == [0, 0]


@pytest.mark.parametrize(
  "attend", [_kernel(), _REFERENCE], ids=["triton", "xla"]
)
def test_skipped_values_are_never_read(attend):
  args = cases.make([70, 129], log_threshold=-4.0)
  testing.assert_never_reads(attend, args, cases.unread(args, _SCALE))


def test_loading_all_and_masking_later_is_caught(monkeypatch):
  load = triton.plgpu.load
  monkeypatch.setattr(
    triton.plgpu, "load", lambda ref, mask=None, other=None: load(ref)
  )
  args = cases.make([70, 129], log_threshold=-4.0)
  with pytest.raises(AssertionError, match=r"output \.out: \d+ of 128 elem"):
    testing.assert_never_reads(_kernel(), args, cases.unread(args, _SCALE))


def test_offsets_beyond_32_bits_are_refused():
  like = jax.ShapeDtypeStruct
  pages = 2**31 // (8 * 64 * 128)
  args = (
    like((1, 32, 128), jnp.bfloat16),
    like((pages, 8, 128, 64), jnp.bfloat16),
    like((pages, 8, 64, 128), jnp.bfloat16),
    like((1, 512), jnp.int32),
    like((1,), jnp.int32),
    like((1, 32), jnp.float32),
  )
  message = "got a pool of 2147483648 and scores of .* divide the pool"
  with pytest.raises(result.UnsupportedError, match=message):
    jax.eval_shape(functools.partial(triton.attend, scale=1.0), *args)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"width": 24}, "got head_dim 24, expected a power of two from 16"),
    ({"page": 24}, "got block 24 for pages of 24, expected a power of two"),
    ({"page": 8}, "got block 8 for pages of 8, expected a power of two"),
  ],
)
def test_sizes_that_do_not_lower_are_refused(change, message):
  args = cases.make([40], **change)
  with pytest.raises(result.UnsupportedError, match=message):
    triton.attend(*args, scale=1.0, interpret=True)
