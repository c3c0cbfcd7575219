r"""Who guesses the next tokens, which one step of the engine then verifies.

A step computes the draws behind all guesses at once, and takes guesses while
they equal what was drawn. Draws are indexed by position, so speculation changes
no token, at any temperature: token $x$ is guessed right with probability
$p(x)$, which is all that rejection sampling allows a fixed guess.

References:
  Leviathan, Kalman and Matias, Fast inference from transformers via speculative
  decoding, arXiv 2211.17192.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from research.inference import sampling as sampling_lib
from research.inference.protocol import TokenEngine
from research.inference.request import Request


class Prefix(NamedTuple):
  """A sequence that wants guesses.

  Attributes:
    number: the request's.
    tokens: all known ones.
    sampling: how the next ones are drawn.
  """

  number: int
  tokens: Sequence[int]
  sampling: sampling_lib.Sampling


@runtime_checkable  # the tests' type checker looks with isinstance
class Drafter(Protocol):
  """Guesses tokens; wrong guesses cost time, never correctness."""

  def propose(
    self, prefixes: Sequence[Prefix], most: int
  ) -> Sequence[Sequence[int]]:
    """Guesses how sequences go on.

    Args:
      prefixes: the sequences.
      most: tokens that are of use for each.

    Returns:
      Tokens for each, or none.
    """
    ...


class PromptLookup:
  """Guesses what followed where the last tokens stood before.

  Args:
    longest: tokens to look for at first; then fewer.
    shortest: tokens to look for at last.

  Example:
    >>> text = Prefix(0, [1, 2, 3, 4, 5, 1, 2, 3], sampling_lib.Sampling())
    >>> PromptLookup().propose([text], 2)
    [[4, 5]]

  References:
    Saxena, Prompt lookup decoding, github.com/apoorvumang.
  """

  def __init__(self, longest: int = 4, shortest: int = 2):
    self._sizes = range(longest, shortest - 1, -1)

  def propose(
    self, prefixes: Sequence[Prefix], most: int
  ) -> Sequence[Sequence[int]]:
    """See `Drafter`."""
    return [self._look_up(np.asarray(p.tokens), most) for p in prefixes]

  def _look_up(self, tokens: np.ndarray, most: int) -> list[int]:
    """The tokens behind the latest earlier place with so many after it."""
    for size in self._sizes:
      if size >= len(tokens):
        continue
      ends = np.arange(size - 1, len(tokens) - 1)
      same = np.ones(len(ends), bool)
      for back in range(size):
        same &= tokens[ends - back] == tokens[-1 - back]
      found = ends[same]
      if len(found):
        full = found[found + most < len(tokens)]
        end = full[-1] if len(full) else found[0]
        return tokens[end + 1 : end + 1 + most].tolist()
    return []


class DraftModel:
  r"""Guesses by a smaller model, which draws with the same random numbers.

  Both models draw by the Gumbel-max trick from one key a position, so that
  their draws agree more often than independent ones would: with probability
  $\ge (1 - d) / (1 + d)$ at total variation distance $d$.

  Args:
    engine: of the smaller model, over the same vocabulary; with a prefix cache
      and small pages it computes little twice.
    context: tokens that it can hold.

  References:
    Daliri, Musco and Suresh, Coupling without communication and
    drafter-invariant speculative decoding, arXiv 2408.07978.
  """

  def __init__(self, engine: TokenEngine, context: int):
    self._engine, self._context = engine, context

  def propose(
    self, prefixes: Sequence[Prefix], most: int
  ) -> Sequence[Sequence[int]]:
    """See `Drafter`."""
    fits = [p for p in prefixes if len(p.tokens) + most <= self._context]
    answers = self._engine.generate(
      [
        Request(p.tokens, sampling=p.sampling, max_tokens=most, ignore_eos=True)
        for p in fits
      ]
    )
    found = {
      p.number: answer.tokens for p, answer in zip(fits, answers, strict=True)
    }
    return [found.get(p.number, ()) for p in prefixes]
