"""Requests as people make them: prompts and answer lengths of ShareGPT."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from research.data import artifacts, tokenizer

_FEWEST = 4  # tokens of a prompt or an answer worth timing


class Item(NamedTuple):
  """A request.

  Attributes:
    prompt: token numbers.
    tokens: how many to answer with.
  """

  prompt: list[int]
  tokens: int


def share_gpt(
  words: tokenizer.Tokenizer, *, count: int, context: int, scale: int, seed: int
) -> list[Item]:
  """Draws requests from the opening exchanges of ShareGPT conversations.

  An exchange with less than 4 tokens on a side, or with more than the context
  holds, is left out, as in vLLM's benchmark. Lengths are then divided by
  `scale`, prompts by leaving out their ends.

  Args:
    words: cuts texts into tokens.
    count: requests to draw.
    context: tokens of a prompt and its answer at most, before scaling.
    scale: what lengths are divided by; above 1 for a shorter run.
    seed: of the draw; a smaller count is a prefix of a larger one.
  """
  text = artifacts.fetch("sharegpt").read_text(errors="replace")
  exchanges = list(openings(text))
  found: list[Item] = []
  for index in np.random.default_rng(seed).permutation(len(exchanges)):
    prompt, answer = (words.encode(side) for side in exchanges[index])
    shortest = min(len(prompt), len(answer))
    if shortest >= _FEWEST and len(prompt) + len(answer) <= context:
      kept = prompt[: -(-len(prompt) // scale)]
      found.append(Item(kept, -(-len(answer) // scale)))
    if len(found) == count:
      return found
  raise ValueError(f"got {len(found)} exchanges that fit, expected {count}")


def openings(text: str) -> Iterator[tuple[str, str]]:
  """Yields each conversation's first question and answer.

  Args:
    text: a JSON array of conversations, whose end may be cut off.

  Example:
    >>> sides = '{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}'
    >>> list(openings('[{"conversations": [' + sides + ']}, {"conversa'))
    [('a', 'b')]
  """
  decoder, start = json.JSONDecoder(), text.find("{")
  while start >= 0:
    try:
      conversation, end = decoder.raw_decode(text, start)
    except json.JSONDecodeError:  # the last one, cut off
      return
    turns = conversation["conversations"][:2]
    if [turn["from"] for turn in turns] == ["human", "gpt"]:
      yield turns[0]["value"], turns[1]["value"]
    start = text.find("{", end)
