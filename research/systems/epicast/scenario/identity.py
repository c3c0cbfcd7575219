"""What makes two scenarios the same, whatever their files are called."""

import dataclasses
import hashlib
import json
from typing import Any

from research.runs import config, errors
from research.systems.epicast.population import files
from research.systems.epicast.scenario import scenario as scenario_lib

# They say how much is run and kept, and change no number of it.
APART = (
  "duration",
  "replicates",
  "output_level",
  "events",
  "checkpoint_interval",
)


def describe(scenario: scenario_lib.Scenario) -> dict[str, Any]:
  """Returns what decides a run's numbers, as plain JSON data.

  Of a data file that is its SHA-256, so that it may move; the keys of `APART`
  are left out, so that a run can be made longer.

  Args:
    scenario: as read.

  Raises:
    UserError: a data file cannot be read.
  """
  plain: dict[str, Any] = {
    name: value
    for name, value in dataclasses.asdict(scenario).items()
    if name not in APART
  }
  for name in scenario_lib.FILES:
    if path := plain[name]:
      try:
        plain[name] = hashlib.sha256(files.read(path)).hexdigest()
      except errors.UserError as error:
        raise errors.UserError(f"{name}: {error}") from None
  return _plain(plain)


def digest(description: dict[str, Any]) -> str:
  """SHA-256 of what `describe` returned.

  Example:
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
  """
  text = json.dumps(description, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def require_same(
  found: dict[str, Any], wanted: dict[str, Any], where: str
) -> None:
  """Raises an error that names the first key in which two scenarios differ.

  Args:
    found: description of what is there.
    wanted: description of what is asked for.
    where: what holds the first, e.g. `"checkpoint DIR"`.
  """
  difference = config.first_difference(found, wanted)
  if difference:
    name, old, new = difference
    raise errors.UserError(
      f"{where}: got a run of another scenario, with {name} = {old!r}; "
      f"expected {name} = {new!r}: choose another folder, or set the key back"
    )


def _plain(value: Any) -> Any:
  """Numbers that are equal become the same; tuples lists; dates texts."""
  if isinstance(value, dict):
    return {str(name): _plain(entry) for name, entry in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(entry) for entry in value]
  if isinstance(value, float) and value.is_integer():
    return int(value)
  if value is None or isinstance(value, bool | int | float):
    return value
  return str(value)
