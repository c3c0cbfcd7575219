"""Typed experiment configs and the docstring that introduces each of them."""

import ast
import dataclasses
import enum
import pathlib
import re
from typing import Any

from research.runs import errors

HEADINGS = ("Paper", "Command", "Expected", "Paper's value")

_HEADING = re.compile(rf"^({'|'.join(HEADINGS)}):[ \t]*(.*)$")
_DURATION = re.compile(
  r"(\d+(?:\.\d+)?)\s*(seconds?|s|minutes?|min|hours?|h)\b"
)
_MINUTES = {"s": 1 / 60, "m": 1.0, "h": 60.0}


@dataclasses.dataclass(kw_only=True)
class ExperimentConfig:
  """What every experiment's config has; each experiment adds its own fields.

  Mutable, because `--config.field=value` sets fields after it was made.

  Attributes:
    size: which of the experiment's configs this is, e.g. `"laptop"`; golden
      claims are kept apart by it.
    seed: the one number from which every random draw follows.
    profile: also write an XLA trace and a Perfetto file.
  """

  size: str = "laptop"
  seed: int = 0
  profile: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
  """What a config file's docstring promises.

  Attributes:
    paper: the paper, with its arXiv id.
    command: the command that runs this config.
    expected: minutes and memory on a named machine.
    paper_value: what the paper reports, in one line.
    minutes: the minutes that `expected` opens with.
  """

  paper: str
  command: str
  expected: str
  paper_value: str
  minutes: float


def describe(path: pathlib.Path | str) -> Header:
  """Reads the docstring of a config file without importing it.

  Args:
    path: a config file whose docstring has one paragraph for each of the
      headings Paper, Command, Expected and Paper's value, each written
      `Heading: text`.

  Returns:
    The four texts, each on one line, and the expected minutes.

  Raises:
    UserError: the file or a heading is missing, or Expected names no time.
  """
  path = pathlib.Path(path)
  try:
    module = ast.parse(path.read_text(encoding="utf-8"))
  except OSError as error:
    raise errors.UserError(
      f"{path}: got no readable file ({error.strerror}), expected a config; "
      "check the path"
    ) from error
  found = _headings(ast.get_docstring(module) or "")
  missing = [heading for heading in HEADINGS if not found.get(heading)]
  if missing:
    raise errors.UserError(
      f"{path}: got a docstring without '{missing[0]}:', expected the headings "
      f"{', '.join(HEADINGS)}; add a line '{missing[0]}: ...'"
    )
  return Header(
    paper=found["Paper"],
    command=found["Command"],
    expected=found["Expected"],
    paper_value=found["Paper's value"],
    minutes=_minutes(path, found["Expected"]),
  )


def _headings(docstring: str) -> dict[str, str]:
  """Splits a docstring into its headings, each text joined to one line."""
  found: dict[str, list[str]] = {}
  current: list[str] = []
  for line in docstring.splitlines():
    match = _HEADING.match(line)
    if match:
      current = found.setdefault(match[1], [])
      line = match[2]
    current.append(line.strip())
  return {
    heading: " ".join(" ".join(lines).split())
    for heading, lines in found.items()
  }


def _minutes(path: pathlib.Path, expected: str) -> float:
  match = _DURATION.search(expected)
  if match is None:
    raise errors.UserError(
      f"{path}: got 'Expected: {expected}', expected a time in it; write for "
      "example 'Expected: 2 minutes, 1.5 GB on 2 cores'"
    )
  return float(match[1]) * _MINUTES[match[2][0]]


def to_dict(config: Any) -> dict[str, Any]:
  """Turns a config into plain JSON data, nested dataclasses included.

  Args:
    config: a dataclass instance of numbers, texts, None, paths, enums,
      sequences, string-keyed mappings and further dataclasses.

  Returns:
    Nested dictionaries and lists that survive a round trip through JSON.

  Raises:
    UserError: a field holds something else.

  Example:
    >>> to_dict(ExperimentConfig(seed=3))
    {'size': 'laptop', 'seed': 3, 'profile': False}
  """
  return {
    field.name: _plain(getattr(config, field.name), field.name)
    for field in dataclasses.fields(config)
  }


def _plain(value: Any, name: str) -> Any:
  if value is None or isinstance(value, bool | int | float | str):
    return value.value if isinstance(value, enum.Enum) else value
  if isinstance(value, enum.Enum):
    return _plain(value.value, name)
  if isinstance(value, pathlib.PurePath):
    return str(value)
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {
      field.name: _plain(getattr(value, field.name), f"{name}.{field.name}")
      for field in dataclasses.fields(value)
    }
  if isinstance(value, list | tuple):
    return [_plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
  if isinstance(value, dict):
    return {str(key): _plain(v, f"{name}.{key}") for key, v in value.items()}
  raise errors.UserError(
    f"config field '{name}': got a {type(value).__name__}, expected a number, "
    "a text, None, a path, an enum, a sequence, a mapping or a dataclass; "
    "store its name instead"
  )


def first_difference(
  left: Any, right: Any, name: str = ""
) -> tuple[str, Any, Any] | None:
  """Finds the first place where two plain configs disagree.

  Args:
    left: data as from `to_dict`.
    right: the data to compare it with.
    name: where in the config we are; empty at the top.

  Returns:
    The dotted name and both values, or None if they are the same.

  Example:
    >>> first_difference({"a": {"b": 1}}, {"a": {"b": 2}})
    ('a.b', 1, 2)
  """
  if isinstance(left, dict) and isinstance(right, dict):
    for key in dict.fromkeys((*left, *right)):
      below = f"{name}.{key}" if name else key
      found = first_difference(left.get(key), right.get(key), below)
      if found:
        return found
    return None
  return None if left == right else (name, left, right)
