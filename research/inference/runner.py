"""The device's side of the engine: compiled steps over a donated pool."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.inference import batch as batch_lib
from research.inference import parallel, sampling
from research.inference.batch import Batch, Shape
from research.transformer import checkpoints, pipeline


class Answers(NamedTuple):
  """What a step draws; fetch it when it is needed.

  Attributes:
    tokens: `[draws]`.
    logprobs: zeros where nobody wanted them, `[draws]`.
  """

  tokens: sampling.HostArray
  logprobs: sampling.HostArray


class _Carried(NamedTuple):
  """What stays on the device from step to step, donated each time."""

  pool: list[Any]
  last: jax.Array


@dataclasses.dataclass
class Runner:
  """Runs batches; each of its shapes is compiled once.

  A step is dispatched and not waited for: the next one takes the tokens that it
  draws from `last`, where every running sequence has a slot.

  Args:
    model: the decoder and its weights.
    sizes: of batches.
    page_size: tokens a page holds.
    shapes: that may be run.
    layout: where weights and pool lie; on one device when omitted.

  Attributes:
    num_compiled: steps compiled so far.
  """

  model: checkpoints.Model
  sizes: batch_lib.Sizes
  page_size: int
  shapes: Sequence[Shape]
  layout: parallel.Layout = parallel.Alone()
  num_compiled: int = 0

  def __post_init__(self) -> None:
    self._placed = self.layout.place(self.model)
    # Flat, because walking the weights' tree takes as long as scheduling.
    self._weights, self._tree = jax.tree.flatten(self._placed.state)
    self._steps: dict[Shape, Any] = {}
    self.reset()

  def reset(self) -> None:
    """Forgets all that was computed."""
    last = self.layout.replicate(jnp.zeros(self.sizes.slots, jnp.int32))
    self._carried = _Carried([], last)  # frees the old pool before the new one
    pool = self.layout.make_pool(
      self._placed,
      num_pages=self.sizes.num_pages,
      page_size=self.page_size,
      slots=self.sizes.slots,
    )
    self._carried = _Carried(pool, last)

  def warm_up(self) -> None:
    """Compiles every shape."""
    for shape in self.shapes:
      self.compiled(shape)

  def fit(self, rows: int, blocks: int, length: int) -> Shape:
    """Returns the smallest shape with so much room, but perhaps less length."""
    fits = [s for s in self.shapes if s.rows >= rows and s.blocks >= blocks]
    tokens = lambda s: s.rows * s.length + s.blocks * self.sizes.block
    return min(fits, key=lambda s: (max(length - s.length, 0), tokens(s)))

  def longest(self, rows: int) -> int:
    """Returns the most tokens that so many rows can have."""
    return max(s.length for s in self.shapes if s.rows >= rows)

  def dispatch(self, batch: Batch) -> Answers:
    """Starts a step.

    Args:
      batch: of one of the shapes.
    """
    step = self.compiled(batch.shape)
    answers, self._carried = step(self._weights, self._carried, batch)
    return answers

  def compiled(self, shape: Shape) -> Any:
    """Returns the compiled step of a shape, compiling it if need be."""
    if shape not in self._steps:
      step, arguments = self.program(shape)
      self._steps[shape] = step.lower(*arguments).compile()
    return self._steps[shape]

  def program(self, shape: Shape) -> tuple[Any, tuple]:
    """Returns a shape's step, jitted, and arguments like those that it gets."""
    everywhere = self.layout.wrap(self._step, (self._weights, self._carried))
    step = jax.jit(everywhere, donate_argnums=1)
    batch = batch_lib.empty(shape, self.sizes)
    return step, (self._weights, self._carried, batch)

  def _step(
    self, weights: list[jax.Array], carried: _Carried, batch: Batch
  ) -> tuple[Answers, _Carried]:
    self.num_compiled += 1  # runs when traced, not when called
    state = jax.tree.unflatten(self._tree, weights)
    decoder = self._placed.bind(pipeline.own_stage(state))
    with jax.named_scope("batch"):
      flat = _flatten(batch, carried.last)
    hidden, pool = self.layout.forward(decoder, flat, carried.pool)
    logits = decoder.logits(hidden[None])[0]
    with jax.named_scope("sample"):
      each = lambda x: _each_draw(x, batch.shape)
      drawn = sampling.sample(
        sampling.restrict(logits, batch.masks),
        flat.positions[flat.ends] + 1,
        jax.tree.map(each, batch.settings),
      )
      logprobs = jax.lax.cond(
        batch.wanted.any(),
        lambda: sampling.log_probabilities(logits, drawn),
        lambda: jnp.zeros(len(drawn)),
      )
      first = drawn[batch.shape.firsts]
      last = carried.last.at[batch.slots].set(first, mode="drop")
    return Answers(drawn, logprobs), _Carried(pool, last)


def _flatten(batch: Batch, last: jax.Array) -> parallel.Flat:
  """Rows and then blocks, token by token."""
  rows, _, length = batch.shape
  kept = last[batch.slots[:rows]]
  first = jnp.where(batch.given[:, 0] >= 0, batch.given[:, 0], kept)
  given = jnp.concatenate([first[:, None], batch.given[:, 1:]], axis=1)
  spread = lambda starts, size: starts[:, None] + jnp.arange(size)[None]
  positions = (
    spread(batch.positions, length),
    spread(batch.starts, batch.pieces.shape[1]),
  )
  flat = lambda *parts: jnp.concatenate([part.reshape(-1) for part in parts])
  return parallel.Flat(
    tokens=flat(given, batch.pieces),
    positions=flat(*positions),
    table=batch.table,
    ends=flat(jnp.arange(rows * length), rows * length + batch.ends),
    slots=batch.slots,
    fresh=batch.fresh,
    rows=rows,
    length=length,
  )


def _each_draw(x: jax.Array, shape: Shape) -> jax.Array:
  """Repeats what belongs to a row for each of its draws."""
  rows = jnp.repeat(x[: shape.rows], shape.length, axis=0)
  return jnp.concatenate([rows, x[shape.rows :]])


def fetch(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
  """Waits for a step's answers.

  Returns:
    Tokens and log-probabilities.
  """
  return np.asarray(answers.tokens), np.asarray(answers.logprobs)
