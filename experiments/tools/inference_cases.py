"""What `experiments.tools.time_inference` is asked, and what it answers."""

import dataclasses
import re

#: What is divided over the ranks, by name.
STRATEGIES = ("tp", "pp", "hybrid")


@dataclasses.dataclass(frozen=True)
class Work:
  """What every request of a batch asks for.

  Attributes:
    prompt: tokens to read.
    tokens: tokens to draw.
  """

  prompt: int
  tokens: int

  def __str__(self) -> str:
    return f"{self.prompt}+{self.tokens}"


@dataclasses.dataclass(frozen=True)
class Case:
  """A strategy with an algorithm at some work, beside its times.

  Attributes:
    name: such as `tp:nvrar`.
    work: such as `16+32`.
    steps: of the engine, for one batch.
    drawn: tokens of the batch.
    different: of them, those that the first case draws otherwise.
    profiled: seconds of the batch that was recorded.
    split: where they went, by `step_split.GROUPS`, the mean over ranks.
  """

  name: str
  work: str
  steps: int
  drawn: int
  different: int
  profiled: float
  split: dict[str, float]


def axes(strategy: str, nodes: int, local: int) -> dict[str, int]:
  """Returns the mesh of a strategy.

  Args:
    strategy: one of `STRATEGIES`; `tp` cuts matrices over all ranks, `pp`
      layers, `hybrid` layers over nodes and matrices within them.
    nodes: how many.
    local: ranks of a node.

  Example:
    >>> axes("hybrid", 4, 2)
    {'pipe': 4, 'node': 1, 'local': 2}
  """
  pipe, node, within = {
    "tp": (1, nodes, local),
    "pp": (nodes * local, 1, 1),
    "hybrid": (nodes, 1, local),
  }[strategy]
  return {"pipe": pipe, "node": node, "local": within}


def parse_work(text: str) -> Work:
  """Reads what requests ask for.

  Raises:
    ValueError: it is none.

  Example:
    >>> parse_work("128+2")
    Work(prompt=128, tokens=2)
  """
  match = re.fullmatch(r"([1-9]\d*)\+([1-9]\d*)", text)
  if not match:
    raise ValueError(
      f"got the work {text!r}, expected tokens to read and to draw, such as"
      " 128+2"
    )
  return Work(int(match[1]), int(match[2]))
