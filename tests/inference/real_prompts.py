"""Real prompts, and whether two answers to them are the same."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from research.data import chat, function_calls, tokenizer
from research.inference import engine
from research.transformer import attention, checkpoints

_NEAR = 1e-3  # logits closer than this may fall either way
_LENGTH = 320

#: Of an answer.
TOKENS = 10

#: Of an engine that answers them.
SETTINGS = engine.Settings(
  num_pages=512,
  page_size=16,
  rows=(1, 16),
  pieces=(96,),
  block=32,
  drafts=(4,),
)


def prompts(words: tokenizer.Tokenizer, count: int) -> list[list[int]]:
  """Questions as SmolLM2 is asked; some with a function's description.

  Raises:
    ArtifactError: if the questions cannot be had.
  """
  found = []
  for index, (text, function) in enumerate(function_calls.load()[:count]):
    if index % 5 == 0:
      text = f"{json.dumps(function)}\n\n{text}"
    assert words.chat_template is not None
    turn = chat.render(words.chat_template, [{"role": "user", "content": text}])
    found.append(words.encode(turn)[-_LENGTH + 40 :])
  return found


class Judge:
  """Compares answers with the model, teacher-forced in one causal pass.

  Args:
    model: in float32.
  """

  def __init__(self, model: checkpoints.Model):
    self._state = model.state

    @jax.jit
    def best_two(state, tokens):
      bound = model.bind(state)
      positions = jnp.arange(_LENGTH)[None]
      out = bound(
        tokens[None],
        positions=positions,
        attention=attention.Causal(),
        states=[None] * model.config.num_layers,
      )
      return jax.lax.top_k(bound.logits(out.hidden)[0], 2)

    self._best_two = functools.partial(best_two, self._state)

  def wrong(self, prompt: list[int], answer: list[int]) -> int:
    """Counts tokens that neither are the most likely nor nearly."""
    return sum(not near for near in self._nearness(prompt, answer))

  def near_tie(self, prompt, want: list[int], found: list[int]) -> bool:
    """Whether answers part at a near tie, and then follow the model.

    Args:
      prompt: of both.
      want: the reference's answer.
      found: another one.
    """
    pairs = zip(want, found, strict=True)
    parting = next(i for i, (a, b) in enumerate(pairs) if a != b)
    both = self._nearness(prompt, want), self._nearness(prompt, found)
    return both[0][parting] and all(both[1][parting:])

  def _nearness(self, prompt, answer) -> list[bool]:
    """Of each token: whether the model gives it the largest logit, nearly."""
    text = np.zeros(_LENGTH, np.int32)
    text[: len(prompt) + len(answer)] = [*prompt, *answer]
    values, tokens = map(np.asarray, self._best_two(text))
    start = len(prompt) - 1
    rows = slice(start, start + len(answer))
    gap = values[rows, 0] - values[rows, 1]
    best = tokens[rows, 0] == answer
    second = (tokens[rows, 1] == answer) & (gap < _NEAR)
    return (best | second).tolist()
