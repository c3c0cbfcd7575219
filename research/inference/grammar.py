"""Answers that obey a JSON schema, a regular expression or a grammar.

  grammars = Grammars(words, model.config.vocab_size)
  Request(prompt, guides=(grammars.json_schema({"type": "integer"}),))

References:
  Guidance AI, llguidance: github.com/guidance-ai/llguidance.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import llguidance
import numpy as np

from research.data import tokenizer


class GrammarError(ValueError):
  """A grammar cannot be used; the message says why in one line."""


class Grammars:
  """Compiles grammars for one vocabulary.

  Args:
    words: the model's tokenizer.
    vocab_size: of the model, padding included.

  Raises:
    GrammarError: if the tokenizer has no token that ends a text.
  """

  def __init__(self, words: tokenizer.Tokenizer, vocab_size: int):
    if words.eos_id is None:
      raise GrammarError(
        "grammar: got a tokenizer without an end-of-text token, expected one; "
        "grammars end answers with it"
      )
    self._words = llguidance.LLTokenizer(
      words.to_json(), n_vocab=vocab_size, eos_token=words.eos_id
    )

  def json_schema(self, schema: Mapping[str, Any]) -> Callable[[], "Matcher"]:
    """Returns the start of a JSON text that a schema describes.

    Args:
      schema: as json-schema.org has it; `{}` for any JSON. Space between its
        parts is the model's choice, unless the schema has
        `"x-guidance": {"whitespace_flexible": False}`.

    Raises:
      GrammarError: if it is none, or uses what is not supported.
    """
    return self._start(
      llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
    )

  def regex(self, pattern: str) -> Callable[[], "Matcher"]:
    """Returns the start of a text that a regular expression matches whole.

    Args:
      pattern: in the syntax of Rust's `regex`, without look-around.

    Raises:
      GrammarError: if it is none.
    """
    return self._start(llguidance.LLMatcher.grammar_from_regex(pattern))

  def lark(self, rules: str) -> Callable[[], "Matcher"]:
    """Returns the start of a text of a context-free grammar.

    Args:
      rules: in llguidance's dialect of Lark, the rule `start` among them.

    Raises:
      GrammarError: if they are none.
    """
    return self._start(llguidance.LLMatcher.grammar_from_lark(rules))

  def _start(self, grammar: str) -> Callable[[], "Matcher"]:
    problem = llguidance.LLMatcher.validate_grammar(grammar, self._words)
    if problem and not problem.startswith("WARNING"):
      raise GrammarError(f"grammar: {' '.join(problem.split())}")
    compiled = llguidance.LLMatcher(self._words, grammar, log_level=0)
    return functools.partial(Matcher, compiled)


class Matcher:
  """Where an answer is in its grammar; a `Guide`.

  Args:
    compiled: at the grammar's start; it is copied.
  """

  narrows = True

  def __init__(self, compiled: llguidance.LLMatcher):
    self._matcher = compiled.deep_copy()

  def push(self, token: int) -> bool:
    """See `Guide`.

    Raises:
      GrammarError: if the grammar does not allow the token.
    """
    if not self._matcher.consume_token(token):
      reason, *_ = self._matcher.get_error().splitlines()
      raise GrammarError(f"grammar: {reason}")
    return self._matcher.is_stopped()

  def masks(self, drafts: Sequence[int], out: np.ndarray) -> int:
    """See `Guide`."""
    taken = 0
    for row in out:
      self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
      more = drafts[taken : taken + 1]
      if not more or not self._matcher.try_consume_tokens(list(more)):
        break
      taken += 1
    self._matcher.rollback(taken)
    return taken
