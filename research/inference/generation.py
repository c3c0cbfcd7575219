"""Lock-step generation of a batch of ragged prompts over a paged cache."""

import dataclasses
import time
from collections import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from research import mesh as mesh_lib
from research.inference import cached, sampling
from research.transformer import cache, checkpoints

_SMALLEST = 32  # shortest compiled prompt, in tokens


class PromptError(ValueError):
  """A prompt cannot be generated from; the message says why in one line."""


@dataclasses.dataclass
class Timing:
  """Where a generation's time went.

  Attributes:
    prefill_s: seconds until the first token of every row.
    decode_s: seconds of all later steps.
    steps: decode steps taken.
  """

  prefill_s: float = 0.0
  decode_s: float = 0.0
  steps: int = 0


class Generator:
  """Compiled prefill and decode steps of one model.

  Prompts are padded to powers of two, so few shapes are ever compiled; the pool
  is donated to every step and updated in place. `prefill` starts every sequence
  afresh: nothing of an earlier one is in the states that it returns.

  Args:
    model: the decoder and its weights.
    attention: how to attend to what is cached; exactly when omitted.
    mesh: devices to run on; the default device when omitted.
    rules: how weights and pool are split over `mesh`.
    page_size: tokens a page of the pool holds.

  Attributes:
    num_compiled: prefill and decode programs compiled so far.
  """

  def __init__(
    self,
    model: checkpoints.Model,
    *,
    attention: cached.CachedAttention | None = None,
    mesh: jax.sharding.Mesh | None = None,
    rules: mesh_lib.ShardingRules | None = None,
    page_size: int = 64,
  ):
    self.page_size = page_size
    self.model, self._placing, outputs = model, None, None
    self._attention = attention or cached.Dense()
    if mesh is not None:
      rules = rules or mesh_lib.ShardingRules({})
      self.model = model.shard(mesh, rules)
      self._placing = cache.pool_shardings(model.config, mesh, rules)
      outputs = (
        None,
        cached.place_states(self._attention, model.config, self._placing, mesh),
      )
    compile_step = lambda step: jax.jit(
      step, donate_argnames="pool", out_shardings=outputs
    )
    self.num_compiled = 0
    self.prefill = compile_step(self._prefill)
    self.decode = compile_step(self._decode)

  def make_pool(self, batch: int, tokens: int) -> tuple[list, jax.Array]:
    """Allocates a pool for `batch` rows of up to `tokens` tokens.

    Args:
      batch: rows.
      tokens: the most tokens a row will hold.

    Returns:
      The pool and its page table.
    """
    table = cache.contiguous_table(
      batch, tokens=tokens, page_size=self.page_size
    )
    pool = cache.make_pool(
      self.model.config, num_pages=table.size, page_size=self.page_size
    )
    if self._placing is not None:
      pool = jax.device_put(pool, self._placing)
    return pool, table

  def warm_up(self, batch: int, *, prompt_tokens: int, max_tokens: int) -> None:
    """Compiles what `stream` will need for prompts of this length.

    Args:
      batch: rows.
      prompt_tokens: length of the longest prompt.
      max_tokens: steps at most.

    Raises:
      PromptError: if such a prompt would not fit the context.
    """
    settings = [sampling.Sampling()] * batch
    prompts = [[0] * prompt_tokens] * batch
    steps = self.stream(prompts, settings, max_tokens=max_tokens)
    for _ in zip(range(2), steps, strict=False):
      pass

  def stream(
    self,
    prompts: abc.Sequence[abc.Sequence[int]],
    settings: abc.Sequence[sampling.Sampling],
    *,
    max_tokens: int,
    timing: Timing | None = None,
    at_end: abc.Callable[[list[Any]], None] | None = None,
  ) -> abc.Generator[Int[np.ndarray, " b"], None, None]:
    """Yields the next token of every row, step by step.

    The next step is dispatched before the last one's tokens are fetched. The
    caller ends a row by ignoring it, and all of them by closing the iterator.

    Args:
      prompts: token numbers, ragged.
      settings: how each row draws.
      max_tokens: steps at most.
      timing: filled in as the generation goes.
      at_end: called with each layer's last state of attention, also where the
        iterator is closed early; the last step may then be one whose token
        nobody saw.

    Yields:
      One token a row.

    Raises:
      PromptError: if a prompt is empty or would not fit the context.
    """
    self._check(prompts, max_tokens)
    timing = timing or Timing()
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    padded = _bucket(int(lengths.max()))
    capacity = max(_bucket(int(lengths.max()) + max_tokens), padded)
    pool, table = self.make_pool(len(prompts), capacity)
    tokens = np.zeros((len(prompts), padded), np.int32)
    for row, prompt in enumerate(prompts):
      tokens[row, : len(prompt)] = prompt
    settings_rows = jax.device_put(sampling.rows(settings))
    positions = jnp.asarray(lengths)

    start = time.perf_counter()
    state = self.model.state
    current, pool = self.prefill(
      state, jnp.asarray(tokens), positions, table, settings_rows, pool=pool
    )
    first = np.asarray(current)
    timing.prefill_s = time.perf_counter() - start
    start = time.perf_counter()
    try:
      for step in range(max_tokens):
        following = None
        if step + 1 < max_tokens:
          following, pool = self.decode(
            state, current, positions, table, settings_rows, pool=pool
          )
          positions = positions + 1
        fetched = first if step == 0 else np.asarray(current)
        timing.steps, timing.decode_s = step, time.perf_counter() - start
        yield fetched
        current = following
    finally:
      if at_end is not None:
        at_end(pool)

  def _prefill(self, state, tokens, lengths, table, settings, *, pool):
    self.num_compiled += 1  # runs when traced, not when called
    decoder = self.model.bind(state)
    fresh = self._attention.init(self.model.config, pool, len(tokens))
    attend = self._attention.prefill(table, lengths)
    out = decoder(tokens, attention=attend, states=fresh)
    index = (lengths - 1)[:, None, None]
    last = jnp.take_along_axis(out.hidden, index, axis=1)
    logits = decoder.logits(last)[:, 0]
    return sampling.sample(logits, lengths, settings), out.states

  def _decode(self, state, tokens, positions, table, settings, *, pool):
    self.num_compiled += 1  # runs when traced, not when called
    decoder = self.model.bind(state)
    out = decoder(
      tokens[:, None],
      positions=positions[:, None],
      attention=self._attention.decode(table),
      states=pool,
    )
    logits = decoder.logits(out.hidden)[:, 0]
    return sampling.sample(logits, positions + 1, settings), out.states

  def _check(
    self, prompts: abc.Sequence[abc.Sequence[int]], max_tokens: int
  ) -> None:
    context = self.model.config.context_length
    for prompt in prompts:
      if not len(prompt):
        raise PromptError("empty prompt: got 0 tokens, expected at least 1")
      if len(prompt) + max_tokens > context:
        raise PromptError(
          f"prompt over the context: got {len(prompt)} tokens and max_tokens="
          f"{max_tokens}, expected at most {context} together; shorten the "
          "prompt or lower max_tokens"
        )


def _bucket(tokens: int) -> int:
  """The power of two that `tokens` is padded to."""
  return max(_SMALLEST, 1 << (tokens - 1).bit_length())
