"""Real questions to assistants that can call functions."""

import json
from typing import Any, NamedTuple

from research.data import artifacts


class Question(NamedTuple):
  """What a user asks, and which function would help.

  Attributes:
    text: the question.
    function: name, description and parameters, as JSON schema has them.
  """

  text: str
  function: dict[str, Any]


def load(*, offline: bool = False) -> list[Question]:
  """Returns the 400 questions of BFCL v4's `simple_python`.

  Args:
    offline: use the cache only.

  Raises:
    ArtifactError: if they cannot be had.

  References:
    Patil et al., The Berkeley Function Calling Leaderboard, ICML 2025.
  """
  path = artifacts.fetch("bfcl/simple_python", offline=offline, progress=False)
  rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
  return [
    Question(row["question"][0][0]["content"], row["function"][0])
    for row in rows
  ]
