"""Sifted attention in generation: prompts exactly, then steps by a policy."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kernels_pallas.threshold_attention import api, result
from research.systems.sift_attention import selection
from research.systems.sift_attention import totals as totals_lib
from research.systems.sift_attention.policies import base
from research.transformer import attention, cache

_ROUNDING = 1e-5  # nats: a few units in the last place of scores near 50


class State(NamedTuple):
  """What a layer remembers of the sequences of a batch.

  Attributes:
    pages: the layer's pool of keys and values.
    policy: the policy's state, its leaves `[b, h]`.
    totals: what decoding read so far, warm-up and exact layers included.
  """

  pages: cache.Pages
  policy: Any
  totals: totals_lib.Totals


@dataclasses.dataclass(frozen=True)
class Sifted:
  r"""Attends to what a policy keeps; give it to a `Generator`.

  Or, with `prompt_rows=0`, to an engine's `parallel.Alone`.

  Prompts are attended exactly. In decode the kernel gets a number for each row
  and head from policies that read the step alone, and so keeps no scores; from
  others it gets the function. Keys are read a second time where a policy learns
  from scores: by a power law only while some row warms up, and by a controller
  around a policy that reads more than the step always.

  The step $S$ counts the prompt. Every layer, sequence and head has a state of
  its own, new with every prompt. Several queries of a row (the tokens that
  speculation verifies) get thresholds from the same state, then teach it in
  order.

  Attributes:
    policy: predicts thresholds.
    always: rows kept by position.
    layers: whether each layer is sifted, the others being exact; all of them
      when omitted.
    prompt_rows: how many rows of a prompt the policy may learn from. 0 is the
      paper to the letter: its warm-up is the first generated tokens.
    implementation: of threshold attention; see its `api`.
    renormalise: divide by the kept mass; the paper does not say.

  Raises:
    ValueError: if prompt_rows is negative; in use, if `layers` does not fit.
  """

  policy: base.Policy
  always: selection.Always = selection.Always()
  layers: tuple[bool, ...] | None = None
  prompt_rows: int = 64
  implementation: str | Sequence[str] | None = None
  renormalise: bool = True
  exact: bool = dataclasses.field(default=False, init=False)

  @property
  def reads_prompts(self) -> bool:
    """See `CachedAttention`."""
    return self.prompt_rows > 0

  def __post_init__(self):
    if self.prompt_rows < 0:
      raise ValueError(
        f"prompt_rows must not be negative, got {self.prompt_rows}; 0 is none"
      )

  def init(self, config, pool, batch: int) -> list[State]:
    """See `CachedAttention`."""
    if self.layers is not None and len(self.layers) != config.num_layers:
      raise ValueError(
        f"layers: got {len(self.layers)} entries, expected one for each of the "
        f"{config.num_layers} layers"
      )
    heads, kv_heads = config.num_heads, config.num_kv_heads
    fresh = lambda pages: State(
      pages,
      self.policy.init(batch, heads),
      totals_lib.empty(batch, heads, kv_heads),
    )
    return [fresh(pages) for pages in pool]

  def prefill(self, table, lengths) -> "Prefill":
    """See `CachedAttention`."""
    return Prefill(self, table, lengths)

  def decode(self, table) -> "Decode":
    """See `CachedAttention`."""
    return Decode(self, table)

  def sifts(self, layer: int) -> bool:
    """Returns whether a layer is sifted."""
    return self.layers is None or self.layers[layer]


@dataclasses.dataclass(frozen=True)
class Prefill:
  """Exact attention to prompts, from which the policy may learn.

  Attributes:
    spec: what is wanted.
    table: page number of each row's i-th page, `[b, pages]`.
    lengths: of the prompts, `[b]`.
  """

  spec: Sifted
  table: jax.Array
  lengths: jax.Array

  def __call__(self, layer, q, k, v, positions, state: State):
    """See `Attention`."""
    spec, exact = self.spec, attention.PagedPrefill(self.table)
    out, pages = exact(layer, q, k, v, positions, state.pages)
    policy = state.policy
    if spec.sifts(layer) and spec.prompt_rows:
      policy = spec.policy.read_prompt(
        policy, q, k, self.lengths, spec.prompt_rows
      )
    return out, state._replace(pages=pages, policy=policy)


@dataclasses.dataclass(frozen=True)
class Decode:
  """Attention of the newest tokens to what the policy keeps.

  Attributes:
    spec: what is wanted.
    table: page number of each row's i-th page, `[b, pages]`; numbers that no
      page has are for rows of nobody, and past a row's end.
  """

  spec: Sifted
  table: jax.Array

  def __call__(self, layer, q, k, v, positions, state: State):
    """See `Attention`; the positions of a row follow one another."""
    seen = positions + 1
    if not self.spec.sifts(layer):
      exact = attention.PagedDecode(self.table)
      out, pages = exact(layer, q, k, v, positions, state.pages)
      totals = totals_lib.add_dense(state.totals, seen)
      return out, State(pages, state.policy, totals)
    pages = cache.write_tokens(state.pages, self.table, positions, k, v)
    done, policy = self._sift(q, pages, seen, state.policy)
    totals = totals_lib.add(
      state.totals, seen=seen, kept=done.kept, rows=done.rows, mass=done.mass
    )
    out = done.out
    if not self.spec.renormalise:
      out = (out * done.mass[..., None]).astype(out.dtype)
    return out, State(pages, policy, totals)

  def _sift(self, q, pages, seen, state) -> tuple[result.Attended, Any]:
    """Attends, and lets the policy learn."""
    policy = self.spec.policy
    again = lambda: log_scores(q, pages, self._read(pages), seen)
    if policy.reads == "step":
      row = base.Row(seen, jnp.zeros(q.shape[:-1]))  # of the maximum, its shape
      wanted = policy.wants_scores(state)
    elif jax.tree.leaves(state):
      scores, wanted = again(), False
      row = base.Row(seen, scores.max(-1), scores)
    else:
      ask = lambda scores: self._threshold(
        state, base.Row(scores.seen, scores.log_max, scores.log_scores)
      )
      return self._attend(q, pages, seen, ask), state
    found = self._threshold(state, row)
    done = self._attend(q, pages, seen, found)
    learn = lambda row: _learn(policy, state, row, found, done.kept)
    if wanted is False:
      return done, learn(row)
    return done, jax.lax.cond(
      wanted,
      lambda: learn(row._replace(log_scores=again())),
      lambda: learn(row),
    )

  def _read(self, pages: cache.Pages) -> Int[Array, "b pages"]:
    """The table to read by: rows of nobody write nothing, but read."""
    return jnp.minimum(self.table, len(pages.k) - 1)

  def _threshold(self, state, row: base.Row):
    """Thresholds `[b, s, h]` of queries that share a state."""
    spec = self.spec
    of_query = lambda row: selection.threshold(
      spec.policy, state, row, spec.always
    )
    found = jax.vmap(of_query, in_axes=1, out_axes=1)(row)
    # It may be one of the scores; kernels add the LSE again and round.
    return found - _ROUNDING if spec.policy.reads == "scores" else found

  def _attend(self, q, pages, seen, log_threshold) -> result.Attended:
    start = jax.vmap(self.spec.always.window_start, in_axes=1, out_axes=1)
    return api.threshold_attention(
      q,
      pages.k,
      pages.v,
      self._read(pages),
      seen[:, -1],
      log_threshold,
      sinks=self.spec.always.sinks,
      window_start=start(seen),
      implementation=self.spec.implementation,
    )


def _learn(policy: base.Policy, state, row: base.Row, log_threshold, kept):
  """Updates a policy's state by each query in turn."""
  each = jax.tree.map(
    lambda x: jnp.moveaxis(x, 1, 0), (row, log_threshold, kept)
  )
  update = lambda state, one: (policy.update(state, *one), None)
  return jax.lax.scan(update, state, each)[0]


def log_scores(
  q: Float[Array, "b s h d"],
  pages: cache.Pages,
  table: Int[Array, "b pages"],
  seen: Int[Array, "b s"],
) -> Float[Array, "b s h slots"]:
  r"""Returns $s_j - \mathrm{LSE}$ over a paged pool, page by page.

  Args:
    q: rotated queries.
    pages: the layer's pool.
    table: page number of each row's i-th page.
    seen: keys that each query sees; of the others the score is $-\infty$.
  """
  batch, queries, heads, width = q.shape
  rows = q.reshape(batch, queries, pages.k.shape[1], -1, width)
  size = pages.page_size

  def add_page(index, scores):
    found = jnp.einsum(
      "bskgd,bkdt->bskgt",
      *(rows, pages.k[table[:, index]]),
      preferred_element_type="float32",
    )
    start = index * size
    return jax.lax.dynamic_update_slice_in_dim(scores, found, start, axis=-1)

  scores = jnp.zeros((*rows.shape[:-1], table.shape[1] * size), jnp.float32)
  count = jnp.minimum(-(-seen.max() // size), table.shape[1])
  scores = jax.lax.fori_loop(0, count, add_page, scores)
  scores = scores.reshape(batch, queries, heads, -1) * width**-0.5
  live = jnp.arange(scores.shape[-1])[None, None] < seen[..., None]
  return jax.nn.log_softmax(jnp.where(live[:, :, None], scores, -jnp.inf))
