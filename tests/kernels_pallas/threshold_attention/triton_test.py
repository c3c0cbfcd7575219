"""The two-pass kernels, interpreted: results, kept sets, and rows not read."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import testing
from kernels_pallas.threshold_attention import (
  result,
  shapes,
  triton,
  triton_blocks,
  triton_launch,
)
from tests.kernels_pallas.threshold_attention import backends, cases

_kernel = functools.partial(backends.compiled, "triton")
_reference = functools.partial(backends.compiled, "reference")


def _near_reference(case, *, rtol=1e-5, **options):
  testing.assert_matches_reference(
    _kernel(**options), _reference(**options), case, rtol=rtol
  )


@pytest.mark.parametrize("length", [1, 15, 33, 255, 2500])
def test_trap_15_any_length(length):
  """A length that no block divides, and one below a block."""
  case = cases.make([length], heads=(2, 1), page=64, log_threshold=-7.0)
  _near_reference(case, block=64)


@pytest.mark.parametrize(("heads", "queries"), [((9, 3), 2), ((4, 1), 4)])
def test_heads_and_queries_fold_into_rows(heads, queries):
  case = cases.make([50, 97], heads=heads, queries=queries)
  _near_reference(case)


def _config(shape: shapes.Shape) -> triton_launch.Config:
  """The shape's own launch, but for the number of splits."""
  group = shape.heads // shape.kv_heads
  config = triton_launch.config_for(
    1,
    triton_launch.Rows(shape.queries, 1, group).padded,
    tokens=shape.tokens,
    page_size=shape.page_size,
    width=shape.head_dim,
    itemsize=jnp.dtype(shape.dtype).itemsize,
  )
  return dataclasses.replace(config, splits=2)


# What differs most; the other shapes are checked in `make test-full`.
_QUICK = (
  "smollm2-135m-8k",
  "llama-3-8b-8k-verify-4",
  "gemma-3-270m-32k-verify-8",
  "smollm2-135m-8k-float32",
)
_SHAPES = [
  pytest.param(
    shape,
    id=shape.name,
    marks=() if shape.name in _QUICK else pytest.mark.slow,
  )
  for shape in shapes.SHAPES
]


@pytest.mark.parametrize("name", ["triton", "triton_one_pass"])
@pytest.mark.parametrize("shape", _SHAPES)
def test_shipped_shapes_are_near_float32(shape, name):
  """A group of each; one pass is compared where it keeps what two do."""
  case = cases.make(
    [150],
    queries=shape.queries,
    heads=(shape.heads // shape.kv_heads, 1),
    width=shape.head_dim,
    page=shape.page_size,
    dtype=jnp.dtype(shape.dtype),
    log_threshold=-8.0 if name == "triton" else -np.inf,
    gain=0.5,
  )
  pools = (x.astype(jnp.float32) for x in case[:3])
  exact = _reference()(*pools, *case[3:])
  kernel = backends.compiled(name, config=_config(shape))
  got = kernel(*case)
  assert got.out.dtype == case.q.dtype
  # In bfloat16 the second part is the rounding of the output itself.
  rtol = 1e-5 if shape.dtype == "float32" else 2e-3 + 2.0**-8
  values = lambda attended: lambda: attended.out.astype(jnp.float32)
  testing.assert_matches_reference(values(got), values(exact), (), rtol=rtol)
  others = lambda attended: lambda: attended[1:]
  testing.assert_matches_reference(others(got), others(exact), (), rtol=1e-5)


def test_float16_weights_do_not_underflow():
  """They are relative to the highest score, not to the log-sum-exp."""
  case = cases.make(
    [33], heads=(2, 1), dtype=jnp.float16, log_threshold=np.inf, gain=8.0
  )
  expected = cases.definition(case)
  assert expected.mass.min() < 1e-3
  np.testing.assert_allclose(
    _kernel()(*case).out, expected.out, rtol=0, atol=4e-3
  )


@pytest.mark.parametrize("name", ["triton", "reference"])
def test_trap_08_renormalises_over_what_is_kept(name):
  """Output, log-sum-exp and mass are the float64 definition's."""
  case = cases.make([1, 33, 70], queries=2, log_threshold=-4.0)
  expected = cases.definition(case)
  got = backends.compiled(name)(*case)
  np.testing.assert_allclose(got.out, expected.out, rtol=0, atol=1e-5)
  np.testing.assert_allclose(got.lse, expected.lse, rtol=1e-5)
  np.testing.assert_allclose(got.mass, expected.mass, rtol=1e-5)
  assert got.kept.ravel().tolist() == [len(x) for x in expected.kept]
  assert got.rows.tolist() == cases.rows(case, expected.kept)
  ones = case._replace(v_pages=jnp.ones_like(case.v_pages))
  weights = backends.compiled(name)(*ones).out[1:]
  np.testing.assert_allclose(weights, 1.0, rtol=1e-6)  # they sum to 1
  assert got.mass[1:].max() < 0.9


def _case_of_trap_7():
  return cases.make([70, 129], queries=2, window=3, log_threshold=-4.5)


@pytest.mark.parametrize("block", [16, 32])
@pytest.mark.parametrize("splits", [1, 2, 8, 16])
def test_trap_07_threshold_is_not_split_local(block, splits):
  """The same kept set, the definition's, whatever the launch shape."""
  case = _case_of_trap_7()
  expected = cases.definition(case, sinks=2).kept
  kernel = _kernel(block=block, splits=splits, sinks=2)
  assert cases.kept_sets(kernel, case) == expected
  assert kernel(*case).kept.ravel().tolist() == [len(x) for x in expected]


@pytest.mark.parametrize("name", ["reference", "xla"])
def test_trap_07_all_backends_keep_the_same_set(name):
  case = _case_of_trap_7()
  attend = backends.compiled(name, sinks=2)
  expected = cases.definition(case, sinks=2).kept
  assert cases.kept_sets(attend, case) == expected


def test_trap_07_splits_do_not_change_lse_by_a_bit():
  case = _case_of_trap_7()
  lse = [np.asarray(_kernel(splits=n, sinks=2)(*case).lse) for n in (1, 2, 8)]
  for other in lse[1:]:
    np.testing.assert_array_equal(lse[0], other)


def test_trap_07_a_log_sum_exp_by_split_is_caught(monkeypatch):
  """Mutant: thresholds from the first split's blocks alone."""
  whole = triton._reduce
  monkeypatch.setattr(
    triton,
    "_reduce",
    lambda top, total, blocks, seen: whole(
      top, total, jnp.minimum(blocks, 3), seen
    ),
  )
  case = _case_of_trap_7()
  attend = functools.partial(
    triton.attend,
    scale=cases.SCALE,
    sinks=2,
    config=triton_launch.Config(block=16, splits=2),
    interpret=True,
  )
  expected = cases.definition(case, sinks=2).kept
  assert cases.kept_sets(jax.jit(attend), case) != expected


def test_minus_infinity_is_dense():
  case = cases.make([40, 97], log_threshold=-np.inf)
  got = _kernel()(*case)
  flat = lambda x, axes: x[case.table].transpose(axes).reshape(2, -1, 2, 16)
  dense = jax.nn.dot_product_attention(
    case.q,
    flat(case.k_pages, (0, 1, 4, 2, 3)),
    flat(case.v_pages, (0, 1, 3, 2, 4)),
    key_value_seq_lengths=case.lengths,
    scale=cases.SCALE,
  )
  np.testing.assert_allclose(got.out, dense, rtol=0, atol=1e-5)
  assert got.kept[:, 0].tolist() == [[40] * 4, [97] * 4]
  assert got.rows.tolist() == [[40] * 2, [97] * 2]
  np.testing.assert_allclose(got.mass, 1.0, rtol=1e-6)


@pytest.mark.parametrize(
  "name", ["triton", "triton_one_pass", "reference", "xla"]
)
def test_trap_09_infinity_keeps_what_is_named_by_position(name):
  """No row is empty at an infinite threshold, and the newest is in it.

  Heads are so peaked that the kept tokens have no mass in float32: weights
  relative to the log-sum-exp would all be zero.
  """
  case = cases.make(
    [15, 97], queries=2, window=2, log_threshold=np.inf, gain=400.0
  )
  expected = cases.definition(case, sinks=1)
  assert expected.mass.min() < 1e-40
  got = backends.compiled(name, sinks=1)(*case)
  assert {len(tokens) for tokens in expected.kept} == {3}
  assert got.kept.ravel().tolist() == [3] * got.kept.size
  np.testing.assert_allclose(got.out, expected.out, rtol=0, atol=1e-4)


def test_trap_09_a_finite_threshold_keeps_the_highest():
  case = cases.make([15, 97], log_threshold=50.0)
  expected = cases.definition(case)
  assert {len(tokens) for tokens in expected.kept} <= {1, 2}
  assert cases.kept_sets(_kernel(), case) == expected.kept


def test_trap_09_dropping_the_newest_is_caught(monkeypatch):
  """Mutant: only scores decide."""
  choose = triton_blocks.choose
  monkeypatch.setattr(
    triton_blocks,
    "choose",
    lambda i, s, least, seen, start, **options: choose(
      i, s, least, seen, start + 10**6, **options
    ),
  )
  attend = functools.partial(
    triton.attend,
    scale=cases.SCALE,
    sinks=0,
    config=triton_launch.Config(block=16, splits=2),
    interpret=True,
  )
  case = cases.make([15, 97], log_threshold=np.inf)
  assert not jax.jit(attend)(*case).kept.any()


def test_peaked_heads():
  """All mass on one token: other weights underflow, and nothing is NaN."""
  case = cases.make([97, 33], gain=400.0, log_threshold=-8.0)
  _near_reference(case)
  got = _kernel()(*case)
  assert int(got.kept.min()) <= 2
  assert all(bool(jnp.isfinite(x).all()) for x in got)


def test_thresholds_are_per_head():
  threshold = jnp.array([[[-np.inf, np.inf, -4.0, -5.0]]])
  case = cases.make([97])._replace(log_threshold=threshold)
  _near_reference(case)
  got = _kernel()(*case)
  assert got.kept[0, 0, :2].tolist() == [97, 1]
  assert got.rows[0, 0] == 97


def _fourth_highest(scores: result.Scores):
  slot = jnp.arange(scores.log_scores.shape[-1])[None, None, None]
  live = slot < scores.seen[..., None, None]
  ranked = jnp.sort(jnp.where(live, scores.log_scores, -jnp.inf), axis=-1)
  # Below it: what is a score itself is a tie that rounding may break.
  return jnp.minimum(ranked[..., -4] - 1e-4, scores.log_max - 0.5)


def test_a_threshold_may_be_a_function_of_the_scores():
  """It is asked between the kernels, of scores relative to their sum."""
  case = cases.make([70, 129], queries=2, window=0)
  _near_reference(case, threshold=_fourth_highest)
  got = _kernel(threshold=_fourth_highest)(*case)
  assert got.kept.min() >= 4
  assert got.kept.max() <= 8


@pytest.mark.parametrize("name", ["triton", "triton_one_pass"])
def test_ragged_batch_equals_single_runs(name):
  case = cases.make([1, 64, 33, 200], queries=2)
  together = backends.compiled(name)(*case)
  for row in range(4):
    alone = backends.compiled(name)(*cases.one_row(case, row))
    for ours, theirs in zip(together, alone, strict=True):
      np.testing.assert_array_equal(ours[row], theirs[0])


@pytest.mark.parametrize("name", ["triton", "triton_one_pass"])
def test_an_idle_row_gives_zeros(name):
  """So does a query before the row's first token."""
  case = cases.make([40, 40], queries=2)
  case = case._replace(lengths=jnp.array([0, 1]))
  got = backends.compiled(name)(*case)
  assert not got.out[0].any()
  assert not got.out[1, 0].any()
  assert got.lse[0].tolist() == [[-np.inf] * 4] * 2
  assert got.mass[:, :, 0].tolist() == [[0, 0], [0, 1]]
  assert got.kept[:, :, 0].tolist() == [[0, 0], [0, 1]]
  assert got.rows.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("name", ["triton", "reference", "xla"])
def test_trap_01_skipped_values_are_never_read(name):
  """NaN in every row that nobody keeps changes no output."""
  case = cases.make([70, 129], queries=2, log_threshold=-4.0)
  unread = cases.unread(case, cases.definition(case).kept)
  assert unread[2].mean() > 0.3
  testing.assert_never_reads(backends.compiled(name), case, unread)


def test_trap_01_loading_all_and_masking_later_is_caught(monkeypatch):
  load = triton.plgpu.load
  monkeypatch.setattr(
    triton.plgpu, "load", lambda ref, mask=None, other=None: load(ref)
  )
  case = cases.make([70, 129], log_threshold=-4.0)
  attend = functools.partial(
    triton.attend,
    scale=cases.SCALE,
    sinks=0,
    config=triton_launch.Config(block=16, splits=2),
    interpret=True,
  )
  unread = cases.unread(case, cases.definition(case).kept)
  with pytest.raises(AssertionError, match=r"output \.out: \d+ of 128 elem"):
    testing.assert_never_reads(jax.jit(attend), case, unread)
