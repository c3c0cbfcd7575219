"""Inputs for threshold attention, and the answer in float64 loops."""

import jax.numpy as jnp
import numpy as np


def make(
  lengths,
  *,
  heads=(4, 2),
  width=16,
  page=32,
  dtype=jnp.float32,
  log_threshold=-4.5,
  gain=1.0,
  seed=0,
):
  """A batch over scattered pages; unused slots and pages hold numbers too."""
  rng = np.random.default_rng(seed)
  batch, pages = len(lengths), -(-max(lengths) // page)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  pool = (batch * pages + 1, heads[1])  # one page belongs to nobody
  table = rng.permutation(batch * pages).reshape(batch, pages)
  return (
    gain * normal(batch, heads[0], width),
    normal(*pool, width, page),
    normal(*pool, page, width),
    jnp.asarray(table, jnp.int32),
    jnp.asarray(lengths, jnp.int32),
    jnp.full((batch, heads[0]), log_threshold, jnp.float32),
  )


def one_row(args, row):
  """The arguments of one row of a batch."""
  q, k, v, table, lengths, threshold = args
  part = slice(row, row + 1)
  return q[part], k, v, table[part], lengths[part], threshold[part]


def definition(args, scale):
  """The definition, token by token in float64.

  Returns:
    The output, and per row and query head the set of kept tokens.
  """
  arrays = [np.asarray(x, np.float64) for x in args[:3]]
  q, k, v = arrays
  table, lengths = np.asarray(args[3]), np.asarray(args[4])
  threshold = np.asarray(args[5], np.float64)
  page, group = v.shape[2], q.shape[1] // v.shape[1]
  out, kept = np.zeros(q.shape), []
  for b, h in np.ndindex(*q.shape[:2]):
    at = [(table[b, j // page], j % page) for j in range(lengths[b])]
    keys = np.array([k[p, h // group, :, t] for p, t in at])
    values = np.array([v[p, h // group, t] for p, t in at])
    scores = keys @ q[b, h] * scale
    lse = scores.max() + np.log(np.exp(scores - scores.max()).sum())
    keep = scores >= min(lse + threshold[b, h], scores.max())
    keep[-1] = True
    weights = np.exp(scores - scores.max()) * keep
    out[b, h] = weights @ values / weights.sum()
    kept.append(frozenset(np.flatnonzero(keep).tolist()))
  return out, kept


def unread(args, scale):
  """Masks of the elements that must not reach an output."""
  _, k, v, table, lengths, _ = args
  batch, heads = args[0].shape[:2]
  page, group = v.shape[2], heads // v.shape[1]
  _, kept = definition(args, scale)
  keys, values = np.ones(k.shape, bool), np.ones(v.shape, bool)
  for b in range(batch):
    for j in range(int(lengths[b])):
      keys[table[b, j // page], :, :, j % page] = False
    for h in range(heads):
      for j in kept[b * heads + h]:
        values[table[b, j // page], h // group, j % page] = False
  return None, keys, values, None, None, None
