"""Inputs for threshold attention, and the answer in float64 loops."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

SCALE = 0.25


class Case(NamedTuple):
  """The arguments of an implementation, in its order."""

  q: jnp.ndarray
  k_pages: jnp.ndarray
  v_pages: jnp.ndarray
  table: jnp.ndarray
  lengths: jnp.ndarray
  log_threshold: jnp.ndarray
  window_start: jnp.ndarray


class Definition(NamedTuple):
  """What the definition gives; `kept` has a set for each of `[b, s, h]`."""

  out: np.ndarray
  lse: np.ndarray
  mass: np.ndarray
  kept: list[frozenset[int]]


def make(
  lengths,
  *,
  queries=1,
  heads=(4, 2),
  width=16,
  page=32,
  dtype=jnp.float32,
  log_threshold=-4.5,
  window=1,
  gain=1.0,
  seed=0,
):
  """A batch over scattered pages; unused slots and pages hold numbers too."""
  rng = np.random.default_rng(seed)
  batch, pages = len(lengths), -(-max(lengths) // page)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  pool = (batch * pages + 1, heads[1])  # one page belongs to nobody
  table = rng.permutation(batch * pages).reshape(batch, pages)
  start = seen(lengths, queries) - window
  return Case(
    gain * normal(batch, queries, heads[0], width),
    normal(*pool, width, page),
    normal(*pool, page, width),
    jnp.asarray(table, jnp.int32),
    jnp.asarray(lengths, jnp.int32),
    jnp.full((batch, queries, heads[0]), log_threshold, jnp.float32),
    jnp.asarray(start, jnp.int32),
  )


def make_peaked(lengths, **options):
  """Most mass on the first token, then on the newest and a few others."""
  case = make(lengths, **options)
  q, keys = case.q, np.array(case.k_pages)
  page, rng = keys.shape[3], np.random.default_rng(1)
  for row, length in enumerate(lengths):
    age = length - 1 - np.arange(length)
    bias = 4.0 * np.exp(-age / 20)
    bias[0] = 10.0
    bias += 2.0 * (rng.random(length) < 0.1)
    for j in range(length):
      # Queries have 1 along the first axis, so that this adds to a score.
      keys[case.table[row, j // page], :, 0, j % page] = bias[j] / SCALE
  return case._replace(
    q=q.at[..., 0].set(1.0), k_pages=jnp.asarray(keys, q.dtype)
  )


def seen(lengths, queries):
  """How many tokens each query sees, `[b, s]`."""
  back = np.arange(queries)[::-1]
  return np.maximum(np.asarray(lengths)[:, None] - back[None, :], 0)


def one_row(case, row):
  """The arguments of one row of a batch."""
  part = slice(row, row + 1)
  pools = case.k_pages, case.v_pages
  q, _, _, *rest = (x[part] for x in case)
  return Case(q, *pools, *rest)


def look(case, at):
  """Scores and values that the query and head `at` sees, in float64."""
  b, s, h = at
  page, group = case.v_pages.shape[2], case.q.shape[2] // case.v_pages.shape[1]
  table = np.asarray(case.table)[b]
  count = seen(case.lengths, case.q.shape[1])[b, s]
  slots = [(table[j // page], h // group, j % page) for j in range(count)]
  of_head = lambda pages: np.asarray(pages, np.float64)
  keys, values = of_head(case.k_pages), of_head(case.v_pages)
  width = case.q.shape[3]
  k = np.array([keys[p, k, :, t] for p, k, t in slots]).reshape(-1, width)
  v = np.array([values[p, k, t] for p, k, t in slots]).reshape(-1, width)
  return k @ np.asarray(case.q[at], np.float64) * SCALE, v


def definition(case, *, sinks=0):
  """The definition, query by query and token by token in float64."""
  shape = case.log_threshold.shape
  out, kept = np.zeros(case.q.shape), []
  lse, mass = np.full(shape, -np.inf), np.zeros(shape)
  for at in np.ndindex(*shape):
    scores, values = look(case, at)
    if not len(scores):
      kept.append(frozenset())
      continue
    lse[at] = np.logaddexp.reduce(scores)
    eta = float(case.log_threshold[at])
    least = np.inf if eta == np.inf else min(lse[at] + eta, scores.max())
    position = np.arange(len(scores))
    keep = (scores >= least) | (position < sinks)
    keep |= position >= int(case.window_start[at[:2]])
    kept.append(frozenset(np.flatnonzero(keep).tolist()))
    if keep.any():
      out[at], mass[at] = average(scores, values, kept[-1])
  return Definition(out, lse, mass, kept)


def average(scores, values, kept):
  """The weighted mean of the kept values, and their softmax mass."""
  tokens = sorted(kept)
  weights = np.exp(scores[tokens] - scores[tokens].max())
  mass = np.exp(scores[tokens] - np.logaddexp.reduce(scores)).sum()
  return weights @ values[tokens] / weights.sum(), mass


def rows(case, kept):
  """How many value rows a key-value head needs, `[b, k]`."""
  batch, queries, heads = case.q.shape[:3]
  kv_heads = case.v_pages.shape[1]
  needed = [[set() for _ in range(kv_heads)] for _ in range(batch)]
  for i, (b, _, h) in enumerate(np.ndindex(batch, queries, heads)):
    needed[b][h // (heads // kv_heads)] |= kept[i]
  return [[len(tokens) for tokens in row] for row in needed]


def unread(case, kept):
  """Masks of the elements that must not reach an output."""
  batch, queries, heads = case.q.shape[:3]
  page, group = case.v_pages.shape[2], heads // case.v_pages.shape[1]
  keys = np.ones(case.k_pages.shape, bool)
  values = np.ones(case.v_pages.shape, bool)
  table = np.asarray(case.table)
  for b in range(batch):
    for j in range(int(case.lengths[b])):
      keys[table[b, j // page], :, :, j % page] = False
  for i, (b, _, h) in enumerate(np.ndindex(batch, queries, heads)):
    for j in kept[i]:
      values[table[b, j // page], h // group, j % page] = False
  return None, keys, values, None, None, None, None


def kept_sets(attend, case):
  """Which values reach each output: those that weigh something in it.

  Values are made one-hot over tokens, so that an output lists its weights.
  """
  table, (page, width) = np.asarray(case.table), case.v_pages.shape[2:]
  tokens = table.shape[1] * page
  sets = [set() for _ in range(case.log_threshold.size)]
  for start in range(0, tokens, width):
    row = np.arange(tokens)[:, None] == start + np.arange(width)[None, :]
    pool = np.zeros(case.v_pages.shape, np.float32)
    for pages in table:
      pool[pages] = row.reshape(-1, 1, page, width)
    pool = jnp.asarray(pool, case.v_pages.dtype)
    out = attend(*case._replace(v_pages=pool)).out
    for i, weights in enumerate(np.asarray(out).reshape(-1, width)):
      sets[i] |= set((start + np.flatnonzero(weights)).tolist())
  return [frozenset(found) for found in sets]
