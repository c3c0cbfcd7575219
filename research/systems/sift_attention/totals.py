"""What sifted attention read, summed on the device as it goes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Totals(NamedTuple):
  """Sums over the queries of one layer; axes may come before `b`.

  Integers are 32 bits wide and hold 2^31 scores of one head: 65,000 steps from
  an empty prompt, 15,000 after one of 131,072 tokens.

  Attributes:
    queries: how many, `[b]`.
    seen: scores that one head had, `[b]`.
    live: value rows of one key-value head that dense attention would have read,
      `[b]`; queries that are attended together share them.
    kept: scores kept, `[b, h]`.
    rows: value rows read, after the union over a group's heads and the queries
      attended together, `[b, k]`.
    mass: sum of the kept mass, `[b, h]`.
  """

  queries: jax.Array
  seen: jax.Array
  live: jax.Array
  kept: jax.Array
  rows: jax.Array
  mass: jax.Array


def empty(batch: int, heads: int, kv_heads: int) -> Totals:
  """Returns the totals of no queries."""
  count = lambda *shape: jnp.zeros(shape, jnp.int32)
  return Totals(
    queries=count(batch),
    seen=count(batch),
    live=count(batch),
    kept=count(batch, heads),
    rows=count(batch, kv_heads),
    mass=jnp.zeros((batch, heads)),
  )


def add(
  totals: Totals,
  *,
  seen: Int[Array, "b s"],
  kept: Int[Array, "b s h"],
  rows: Int[Array, "b k"],
  mass: Float[Array, "b s h"],
) -> Totals:
  """Adds the queries of one step.

  Args:
    totals: so far.
    seen: keys that each query sees, itself included.
    kept: of them, by each head.
    rows: value rows read for all these queries.
    mass: kept mass.

  Returns:
    The totals with this step.
  """
  return Totals(
    queries=totals.queries + seen.shape[1],
    seen=totals.seen + seen.sum(1),
    live=totals.live + seen.max(1),
    kept=totals.kept + kept.sum(1),
    rows=totals.rows + rows,
    mass=totals.mass + mass.sum(1),
  )


def add_dense(totals: Totals, seen: Int[Array, "b s"]) -> Totals:
  """Adds the queries of one step of exact attention; see `add`."""
  heads, kv_heads = totals.kept.shape[-1], totals.rows.shape[-1]
  shape = (*seen.shape, heads)
  rows = jnp.broadcast_to(seen.max(1)[:, None], (len(seen), kv_heads))
  kept = jnp.broadcast_to(seen[..., None], shape)
  return add(totals, seen=seen, kept=kept, rows=rows, mass=jnp.ones(shape))
