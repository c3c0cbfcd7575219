import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_pallas import implementations
from kernels_pallas.threshold_attention import api, triton
from research.transformer import attention, cache, tensor_parallel

_HEADS, _KV_HEADS, _WIDTH = 6, 2, 16
_CONTEXT = 128  # slots of a row

_attend = jax.jit(attention.attend_pages)
_causal = jax.jit(attention.attend_causal)


@jax.jit
def _dense(q, k, v, mask):
  return jax.nn.dot_product_attention(q, k, v, mask=mask)


def _draw(seed: int, batch: int, queries: int) -> tuple[np.ndarray, ...]:
  rng = np.random.default_rng(seed)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  q = 2 * normal(batch, queries, _HEADS, _WIDTH)
  k = normal(batch, _CONTEXT, _KV_HEADS, _WIDTH)
  v = normal(batch, _CONTEXT, _KV_HEADS, _WIDTH)
  return q, k, v


def _paged(
  k: np.ndarray, v: np.ndarray, page_size: int, strangers: float
) -> tuple[cache.Pages, jax.Array]:
  """Scatters rows over a pool of which half the pages are strangers'."""
  count = _CONTEXT // page_size
  pages = np.random.default_rng(0).permutation(2 * len(k) * count)
  table = pages[: len(k) * count].reshape(len(k), count)
  shape = (2 * len(k) * count, _KV_HEADS, _WIDTH, page_size)
  pool_k = np.full(shape, strangers, np.float32)
  pool_v = pool_k.swapaxes(2, 3).copy()
  split = lambda x: x.reshape(len(x), count, page_size, _KV_HEADS, _WIDTH)
  pool_k[table] = split(k).transpose(0, 1, 3, 4, 2)
  pool_v[table] = split(v).transpose(0, 1, 3, 2, 4)
  return cache.Pages(jnp.asarray(pool_k), jnp.asarray(pool_v)), jnp.asarray(
    table
  )


def _expected(q, k, v, positions) -> np.ndarray:
  live = np.arange(_CONTEXT)[None, None] <= positions[:, :, None]
  return np.asarray(_dense(q, k, v, jnp.asarray(live[:, None])))


@pytest.mark.parametrize("page_size", [8, 64, _CONTEXT])
@pytest.mark.parametrize("queries", [1, 5])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_pages_equal_dense_attention(page_size, queries, data):
  seed = data.draw(st.integers(0, 2**16))
  start = st.integers(0, _CONTEXT - queries)
  starts = data.draw(st.lists(start, min_size=3, max_size=3))
  positions = np.array(starts)[:, None] + np.arange(queries)
  q, k, v = _draw(seed, 3, queries)
  pages, table = _paged(k, v, page_size, strangers=np.nan)
  found = _attend(q, pages, table, jnp.asarray(positions))
  np.testing.assert_allclose(
    found, _expected(q, k, v, positions), atol=2e-6, rtol=1e-5
  )


@pytest.mark.parametrize("page_size", [8, 64])
def test_pages_past_the_longest_row_are_never_read(page_size):
  q, k, v = _draw(1, 2, 1)
  positions = np.array([[3], [page_size - 1]])  # both within their first page
  k[:, page_size:] = v[:, page_size:] = np.nan
  pages, table = _paged(k, v, page_size, strangers=np.nan)
  found = _attend(q, pages, table, jnp.asarray(positions))
  clean_k, clean_v = np.nan_to_num(k), np.nan_to_num(v)
  np.testing.assert_allclose(
    found, _expected(q, clean_k, clean_v, positions), atol=2e-6
  )


def test_slots_past_a_row_have_no_weight():
  q, k, v = _draw(2, 2, 1)
  positions = jnp.array([[3], [100]])
  before = _attend(q, *_paged(k, v, 8, strangers=0.0), positions)
  k[0, 4:], v[0, 4:] = 1e4, -1e4
  after = _attend(q, *_paged(k, v, 8, strangers=0.0), positions)
  np.testing.assert_array_equal(before, after)


def test_the_first_token_attends_to_itself():
  q, k, v = _draw(3, 2, 1)
  pages, table = _paged(k, v, 8, strangers=np.nan)
  found = _attend(q, pages, table, jnp.zeros((2, 1), int))
  expected = np.repeat(v[:, :1], _HEADS // _KV_HEADS, axis=2)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_large_scores_do_not_overflow():
  q, k, v = _draw(4, 2, 1)
  pages, table = _paged(100 * k, v, 8, strangers=np.nan)
  positions = np.full((2, 1), 100)
  found = _attend(100 * q, pages, table, jnp.asarray(positions))
  np.testing.assert_allclose(
    found, _expected(100 * q, 100 * k, v, positions), atol=1e-5
  )


def test_bfloat16_is_accumulated_in_float32():
  q, k, v = (x.astype(jnp.bfloat16) for x in _draw(5, 2, 1))
  wide_q, wide_k, wide_v = (np.asarray(x, np.float32) for x in (q, k, v))
  pages, table = _paged(wide_k, wide_v, 8, strangers=0.0)
  pages = cache.Pages(*(x.astype(jnp.bfloat16) for x in pages))
  positions = np.full((2, 1), _CONTEXT - 1)
  found = _attend(jnp.asarray(q), pages, table, jnp.asarray(positions))
  assert found.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    np.asarray(found, np.float32),
    _expected(wide_q, wide_k, wide_v, positions),
    atol=2e-2,
  )


# One block, just over one, several, and more than the most blocks there are.
@pytest.mark.parametrize("length", [1, 20, 129, 300, 1100])
def test_causal_equals_a_lower_triangle(length):
  rng = np.random.default_rng(6)
  shapes = [(2, length, heads, _WIDTH) for heads in (_HEADS, _KV_HEADS)]
  q = jnp.asarray(rng.normal(size=shapes[0]).astype(np.float32))
  k, v = jnp.asarray(rng.normal(size=(2, *shapes[1])).astype(np.float32))
  found = _causal(q, k, v)
  lower = jnp.tril(jnp.ones((length, length), bool))[None, None]
  np.testing.assert_allclose(found, _dense(q, k, v, lower), atol=2e-6)


@pytest.mark.parametrize("length", [8, 13])
def test_prefill_and_decode_objects_continue_each_other(length):
  q, k, v = (jnp.asarray(x[:, : length + 1]) for x in _draw(7, 2, length + 1))
  table = jnp.array([[5, 0], [2, 4]])
  empty = cache.Pages(
    jnp.zeros((6, _KV_HEADS, _WIDTH, 8)), jnp.zeros((6, _KV_HEADS, 8, _WIDTH))
  )
  positions = jnp.tile(jnp.arange(length + 1), (2, 1))
  whole, _ = attention.Causal()(0, q, k, v, positions, None)
  head, tail = (
    [x[:, part] for x in (q, k, v, positions)]
    for part in (slice(length), slice(length, None))
  )
  prefill, decode = attention.PagedPrefill(table), attention.PagedDecode(table)
  first, pages = prefill(0, head[0], head[1], head[2], head[3], empty)
  last, _ = decode(0, tail[0], tail[1], tail[2], tail[3], pages)
  found = np.concatenate([first, last], axis=1)
  np.testing.assert_allclose(found, whole, atol=2e-6)


def test_the_kernel_for_gpus_attends_to_everything(monkeypatch):
  """Interpreted: rows, one of nobody, and a piece whose padding has no page."""
  by_kernel = functools.partial(triton.attend, interpret=True)
  monkeypatch.setitem(api.IMPLEMENTATIONS, "triton", by_kernel)
  _, k, v = _draw(0, 3, 1)
  pool, table = _paged(k, v, 64, np.nan)
  strange = lambda x: jnp.concatenate([x, jnp.full_like(x[:1], jnp.nan)])
  pool = cache.Pages(*map(strange, pool))
  nobody = jnp.full_like(table[:1], len(pool.k))
  table = jnp.concatenate([table.at[0, 1].set(len(pool.k)), nobody])
  for length, first in ((1, (0, 70, 127, 0)), (16, (55, 60, 115, 0))):
    q = jnp.asarray(_draw(1, 4, length)[0])
    positions = jnp.asarray(np.add.outer(first, np.arange(length)))
    found, expected = (
      attention.attend_cached(q, pool, table, positions, implementation=name)
      for name in ("triton", "xla")
    )
    ends = jnp.asarray([64, _CONTEXT, _CONTEXT, 0])
    live = positions < ends[:, None]
    np.testing.assert_allclose(found[live], expected[live], atol=2e-5)


def test_the_kernel_is_not_for_parts_of_heads():
  partition = tensor_parallel.TensorParallel(
    axes=("local",), ranks=2, attention="head_dim", vocabulary=False
  )
  q, k, v = _draw(0, 1, 1)
  pool, table = _paged(k, v, 64, 0)
  with pytest.raises(implementations.UnsupportedError, match="parts of every"):
    attention.attend_cached(
      jnp.asarray(q), pool, table, jnp.zeros((1, 1), int), partition, "triton"
    )
