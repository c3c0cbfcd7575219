"""Rows of unlike lengths in one flat batch attend as each would alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.transformer import attention, cache

_HEADS, _KV, _WIDTH, _SIZE = 4, 2, 8, 4
_PAGES = 12


def _naive(q, k, v, at: int) -> np.ndarray:
  """One query at a position, in float64 and by loops over heads."""
  out = np.zeros((_HEADS, _WIDTH))
  for head in range(_HEADS):
    group = head // (_HEADS // _KV)
    scores = k[: at + 1, group] @ q[head] / np.sqrt(_WIDTH)
    weights = np.exp(scores - scores.max())
    out[head] = weights @ v[: at + 1, group] / weights.sum()
  return out


class _Sequence:
  """Keys and values of a whole sequence, and its pages."""

  def __init__(self, length: int, pages: list[int], rng):
    self.k, self.v = rng.normal(size=(2, length, _KV, _WIDTH))
    self.q = rng.normal(size=(length, _HEADS, _WIDTH))
    self.row = np.full(4, _PAGES, np.int32)  # of no page
    self.row[: len(pages)] = pages

  def known(self, pool: cache.Pages, count: int) -> cache.Pages:
    k, v = (jnp.asarray(x[None, :count], "float32") for x in (self.k, self.v))
    at = jnp.arange(count)[None]
    return cache.write_tokens(pool, jnp.asarray(self.row[None]), at, k, v)


@pytest.fixture(scope="module")
def attended():
  """Two decoding rows and one of nobody; a piece in two blocks, one of nobody.

  The last block has two tokens of padding.
  """
  rng = np.random.default_rng(0)
  short = _Sequence(6, [7, 2], rng)
  long = _Sequence(14, [3, 9, 0, 5], rng)
  piece = _Sequence(10, [8, 1, 6], rng)
  pool = cache.Pages(
    jnp.zeros((_PAGES, _KV, _WIDTH, _SIZE)),
    jnp.zeros((_PAGES, _KV, _SIZE, _WIDTH)),
  )
  pool = long.known(short.known(piece.known(pool, 2), 5), 13)
  nobody = np.full(4, _PAGES, np.int32)
  rows = [(short, [5]), (long, [13]), (None, [0])]
  blocks = [(piece, [2, 3, 4, 5]), (piece, [6, 7, 8, 9]), (None, [0, 1, 2, 3])]
  groups = []
  flat = [(s, at) for s, positions in blocks + rows for at in positions]
  for group in (blocks, rows):
    tables = [nobody if s is None else s.row for s, _ in group]
    groups.append(jnp.asarray(np.stack(tables)))
  zeros = lambda heads: np.zeros((heads, _WIDTH))
  take = lambda name, heads: jnp.asarray(
    [zeros(heads) if s is None else getattr(s, name)[at] for s, at in flat],
    "float32",
  )[None]
  attend = attention.PagedGroups(tuple(groups), (4, 1))
  out, after = jax.jit(lambda *arrays: attend(0, *arrays))(
    take("q", _HEADS),
    take("k", _KV),
    take("v", _KV),
    jnp.asarray([[at for _, at in flat]]),
    pool,
  )
  return flat, np.asarray(out)[0], pool, after


def test_every_query_sees_its_own_past(attended):
  flat, out, _, _ = attended
  for (sequence, at), found in zip(flat, out, strict=True):
    if sequence is not None:
      expected = _naive(sequence.q[at], sequence.k, sequence.v, at)
      np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_rows_of_nobody_write_nothing(attended):
  flat, _, before, after = attended
  touched = {s.row[at // _SIZE] for s, at in flat if s is not None}
  for page in set(range(_PAGES)) - touched:
    for old, new in zip(before, after, strict=True):
      np.testing.assert_array_equal(old[page], new[page])


def test_it_is_an_attention():
  assert isinstance(attention.PagedGroups((), ()), attention.Attention)
