"""Whole windows attended as decoding them step by step would.

Every query row is one step: the policy sees its scores, keeps some, and learns.
Only then comes the next row. Rows are taken in blocks, so that the scores of a
block exist at a time and attention itself is one product a block.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.systems.sift_attention import selection, sifting
from research.systems.sift_attention.policies import base

_BLOCK = 128  # query rows whose scores exist at once


class Counts(NamedTuple):
  """Sums over a window's counted rows, of one layer.

  Attributes:
    live: scores that one head has, a number.
    kept: scores kept, `[b, h]`.
    mass: sum of the kept probability, `[b, h]`.
    rows: value rows read after the union over each group, if rows are skipped
      by blocks of each size, `[b, k, blocks]`.
  """

  live: jax.Array
  kept: jax.Array
  mass: jax.Array
  rows: jax.Array


@dataclasses.dataclass(frozen=True)
class TeacherForced:
  r"""An `Attention` that masks exactly as decode would.

  Steps $S \le P$ are a prompt and $P < S \le P + e$ exact too, the same for
  every policy; policies learn from the latter, which are their warm-up. Later
  rows attend to what is kept, and only they are counted.

  The state of a policy is its own in every layer, sequence and head, and starts
  afresh with every call. What the decoder returns as a layer's state are its
  `Counts`.

  Attributes:
    policy: predicts thresholds.
    always: rows kept by position.
    exact_steps: $e$, at least the longest warm-up among policies compared.
    prompt: $P$, tokens that are attended exactly.
    prompt_rows: how many rows of the prompt the policy may learn from. 0 is the
      paper to the letter: its warm-up is what follows the prompt.
    renormalise: divide by the kept mass.
    blocks: sizes of blocks for which `Counts.rows` says what skipping by whole
      blocks would read.

  Example:
    >>> from research.systems.sift_attention.policies import rules
    >>> attend = TeacherForced(rules.TopK(1), exact_steps=2)
    >>> q, v = jnp.ones((1, 5, 2, 4)), jnp.ones((1, 5, 1, 4))
    >>> out, counts = attend(0, q, v, v, jnp.arange(5)[None], None)
    >>> int(counts.live)  # steps 3, 4 and 5
    12
  """

  policy: base.Policy
  always: selection.Always = selection.Always()
  exact_steps: int = 128
  prompt: int = 0
  prompt_rows: int = 0
  renormalise: bool = True
  blocks: tuple[int, ...] = (1, 16, 64, 128)

  def __post_init__(self):
    if self.prompt_rows and not self.prompt:
      raise ValueError(
        f"prompt_rows needs a prompt, got {self.prompt_rows} rows of none; set "
        "prompt, or prompt_rows to 0"
      )

  def __call__(
    self,
    layer: int,
    q: Float[Array, "b s h d"],
    k: Float[Array, "b s k d"],
    v: Float[Array, "b s k d"],
    positions: Int[Array, "b s"],
    state: Any,
  ) -> tuple[Float[Array, "b s h d"], Counts]:
    """See `Attention`; rows start at position 0."""
    del layer, positions, state
    return _attend(self, q, k, v)


@functools.partial(jax.jit, static_argnums=0)  # layers share a program
def _attend(spec: TeacherForced, q, k, v):
  batch, length, heads, width = q.shape
  kv_heads = k.shape[2]
  state = _first_state(spec, q, k)
  rows = q.reshape(batch, length, kv_heads, -1, width) * width**-0.5
  outs, counts = [], []
  for start in range(0, length, _BLOCK):
    stop = min(start + _BLOCK, length)
    log_scores = _log_scores(rows[:, start:stop], k[:, :stop], start)
    steps = jnp.arange(start + 1, stop + 1)
    keep, state = _select(spec, state, log_scores, steps)
    out, mass = _sift(spec, keep, log_scores, v[:, :stop])
    outs.append(out.transpose(0, 2, 1, 3))
    counts.append(_count(spec, keep, mass, steps, kv_heads))
  total = jax.tree.map(lambda *parts: sum(parts), *counts)
  return jnp.concatenate(outs, axis=1).astype(q.dtype), total


def _first_state(spec: TeacherForced, q, k):
  """Returns the policy's fresh state, taught by the prompt if asked to."""
  batch, _, heads, _ = q.shape
  state = spec.policy.init(batch, heads)
  if not spec.prompt_rows:
    return state
  q, k = q[:, : spec.prompt], k[:, : spec.prompt]
  lengths = jnp.full(batch, spec.prompt)
  return spec.policy.read_prompt(state, q, k, lengths, spec.prompt_rows)


def _log_scores(
  rows: Float[Array, "b s k g d"], k: Float[Array, "b t k d"], start: int
) -> Float[Array, "b h s t"]:
  """Log probabilities of exact attention; of keys not seen yet, -inf."""
  scores = jnp.einsum(
    "bskgd,btkd->bkgst", rows, k, preferred_element_type="float32"
  )
  batch, kv_heads, groups, length, size = scores.shape
  scores = scores.reshape(batch, kv_heads * groups, length, size)
  seen = _seen(jnp.arange(start + 1, start + length + 1), size)
  return jax.nn.log_softmax(jnp.where(seen[None, None], scores, -jnp.inf))


def _seen(steps: Int[Array, " s"], size: int) -> Bool[Array, "s t"]:
  return jnp.arange(size)[None, :] < steps[:, None]


def _select(
  spec: TeacherForced,
  state: Any,
  log_scores: Float[Array, "b h s t"],
  steps: Int[Array, " s"],
) -> tuple[Bool[Array, "b h s t"], Any]:
  """Lets the policy select row after row; exact rows are whole."""
  batch = log_scores.shape[0]

  def one(state, scores, step):
    lengths = jnp.full(batch, step)
    chosen, after = selection.select(
      spec.policy, state, scores, lengths, spec.always
    )
    in_prompt = step <= spec.prompt
    after = jax.tree.map(
      lambda old, new: jnp.where(in_prompt, old, new), state, after
    )
    return after, chosen.keep

  if jax.tree.leaves(state):
    rows = (log_scores.transpose(2, 0, 1, 3), steps)
    state, keep = jax.lax.scan(lambda state, row: one(state, *row), state, rows)
    keep = keep.transpose(1, 2, 0, 3)
  else:
    alone = lambda scores, step: one(state, scores, step)[1]
    keep = jax.vmap(alone, in_axes=(2, 0), out_axes=2)(log_scores, steps)
  exact = (steps <= spec.prompt + spec.exact_steps)[None, None, :, None]
  seen = _seen(steps, log_scores.shape[-1])[None, None]
  return (keep | exact) & seen, state


def _sift(
  spec: TeacherForced,
  keep: Bool[Array, "b h s t"],
  log_scores: Float[Array, "b h s t"],
  v: Float[Array, "b t k d"],
) -> tuple[Float[Array, "b h s d"], Float[Array, "b h s"]]:
  """`sifting.sift` of a block of rows, and the mass that each keeps."""
  batch, heads, length, size = keep.shape
  kept = jnp.where(keep, log_scores, -jnp.inf)
  top = kept.max(-1)
  weights = jnp.exp(kept - top[..., None])
  total = weights.sum(-1)
  groups = weights.reshape(batch, v.shape[2], -1, size)
  out = jnp.einsum("bkrt,btkd->bkrd", groups, v)
  out = out.reshape(batch, heads, length, -1)
  scale = 1 / total if spec.renormalise else jnp.exp(top)
  return out * scale[..., None], total * jnp.exp(top)


def _count(spec: TeacherForced, keep, mass, steps, kv_heads) -> Counts:
  counted = steps > spec.prompt + spec.exact_steps
  keep = keep & counted[None, None, :, None]
  batch, heads, length, size = keep.shape
  read = sifting.rows_read(keep.reshape(batch, heads, -1), kv_heads)
  read = read.reshape(batch, kv_heads, length, size)
  live = jnp.where(counted, steps, 0)
  return Counts(
    live=live.sum(),
    kept=keep.sum((-1, -2), dtype=jnp.int32),
    mass=jnp.where(counted[None, None], mass, 0).sum(-1),
    rows=jnp.stack([_touched(read, live, by) for by in spec.blocks], axis=-1),
  )


def _touched(
  read: Bool[Array, "b k s t"], live: Int[Array, " s"], by: int
) -> Int[Array, "b k"]:
  """Counts live rows in blocks of which some row is read."""
  if by == 1:
    return read.sum((2, 3), dtype=jnp.int32)
  pad = -read.shape[-1] % by
  read = jnp.pad(read, ((0, 0), (0, 0), (0, 0), (0, pad)))
  any_row = read.reshape(*read.shape[:-1], -1, by).any(-1)
  starts = jnp.arange(any_row.shape[-1]) * by
  holds = jnp.clip(live[:, None] - starts[None, :], 0, by)
  touched = jnp.where(any_row, holds[None, None], 0)
  return touched.sum((2, 3), dtype=jnp.int32)
