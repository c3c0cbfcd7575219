import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.transformer import cache
from research.transformer import config as config_lib

_HEADS, _WIDTH, _SIZE = 2, 4, 8
_CONFIG = config_lib.DecoderConfig(
  vocab_size=8,
  embed_dim=8,
  num_layers=3,
  num_heads=4,
  num_kv_heads=_HEADS,
  head_dim=_WIDTH,
  mlp_dim=8,
  context_length=64,
)


def _pages(num_pages: int = 8) -> cache.Pages:
  return cache.make_pool(_CONFIG, num_pages=num_pages, page_size=_SIZE)[0]


def _tokens(batch: int, length: int, seed: int = 0) -> tuple[jax.Array, ...]:
  rng = np.random.default_rng(seed)
  shape = (2, batch, length, _HEADS, _WIDTH)
  return tuple(jnp.asarray(rng.normal(size=shape).astype(np.float32)))


def _gather(pages: cache.Pages, table: np.ndarray) -> tuple[np.ndarray, ...]:
  """Each row's keys and values in order, `[b, slots, head, d]`."""
  k, v = np.asarray(pages.k)[table], np.asarray(pages.v)[table]
  k, v = k.transpose(0, 1, 4, 2, 3), v.transpose(0, 1, 3, 2, 4)
  return tuple(x.reshape(len(x), -1, *x.shape[3:]) for x in (k, v))


def test_pool_has_a_pair_a_layer():
  pool = cache.make_pool(_CONFIG, num_pages=5, page_size=16)
  assert len(pool) == _CONFIG.num_layers
  for pages in pool:
    assert pages.k.shape == (5, _HEADS, _WIDTH, 16)
    assert pages.v.shape == (5, _HEADS, 16, _WIDTH)
    assert pages.page_size == 16
    assert pages.k.dtype == pages.v.dtype == jnp.float32


@pytest.mark.parametrize(("tokens", "pages"), [(1, 1), (8, 1), (9, 2)])
def test_contiguous_rows_never_share_a_page(tokens, pages):
  table = cache.contiguous_table(3, tokens=tokens, page_size=8)
  assert table.shape == (3, pages)
  assert len(np.unique(table)) == table.size


def test_prefix_is_read_back_from_scattered_pages():
  table = np.array([[6, 1, 3], [0, 7, 2]])
  k, v = _tokens(2, 19)
  pages = cache.write_prefix(_pages(), jnp.asarray(table), k, v)
  found_k, found_v = _gather(pages, table)
  np.testing.assert_array_equal(found_k[:, :19], k)
  np.testing.assert_array_equal(found_v[:, :19], v)
  for array in pages:  # pages of nobody
    assert not np.asarray(array)[[4, 5]].any()


def test_prefix_equals_tokens_written_one_by_one():
  table = jnp.array([[6, 1, 3], [0, 7, 2]])
  k, v = _tokens(2, 19)
  whole = cache.write_prefix(_pages(), table, k, v)
  single = _pages()
  for i in range(19):
    at = jnp.full((2, 1), i)
    single = cache.write_tokens(
      single, table, at, k[:, i : i + 1], v[:, i : i + 1]
    )
  np.testing.assert_array_equal(whole.k, single.k)
  np.testing.assert_array_equal(whole.v, single.v)


def test_a_prefix_leaves_later_pages_alone():
  table = jnp.array([[0, 1, 2]])
  full = cache.Pages(*(jnp.ones_like(x) for x in _pages(3)))
  k, v = _tokens(1, 9)
  pages = cache.write_prefix(full, table, k, v)
  assert (np.asarray(pages.k)[2] == 1).all()
  assert (np.asarray(pages.v)[2] == 1).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 23), min_size=3, max_size=3, unique=True))
def test_tokens_land_where_their_positions_say(positions):
  table = np.array([[6, 1, 3], [0, 7, 2]])
  at = np.array([positions, positions[::-1]])
  k, v = _tokens(2, 3)
  pages = cache.write_tokens(
    _pages(), jnp.asarray(table), jnp.asarray(at), k, v
  )
  found_k, found_v = _gather(pages, table)
  expected = np.zeros((2, 2, 24, _HEADS, _WIDTH), np.float32)
  for row in range(2):
    expected[0, row, at[row]] = k[row]
    expected[1, row, at[row]] = v[row]
  np.testing.assert_array_equal(found_k, expected[0])
  np.testing.assert_array_equal(found_v, expected[1])


def test_tokens_past_the_table_are_dropped():
  table = jnp.array([[0, 1]])
  k, v = _tokens(1, 2)
  pages = cache.write_tokens(_pages(), table, jnp.array([[15, 16]]), k, v)
  found_k, _ = _gather(pages, np.array([[0, 1]]))
  np.testing.assert_array_equal(found_k[0, 15], k[0, 0])
  assert np.count_nonzero(np.asarray(pages.k)) == _HEADS * _WIDTH
  assert np.count_nonzero(np.asarray(pages.v)) == _HEADS * _WIDTH


def test_a_table_entry_past_the_pool_drops_the_token():
  # Rows that are over point past the pool, so that they write nowhere.
  table = jnp.array([[0, 8], [8, 8]])
  k, v = _tokens(2, 1)
  pages = cache.write_tokens(_pages(), table, jnp.array([[3], [3]]), k, v)
  assert np.count_nonzero(np.asarray(pages.k)) == _HEADS * _WIDTH
  np.testing.assert_array_equal(np.asarray(pages.k)[0, :, :, 3], k[0, 0])
