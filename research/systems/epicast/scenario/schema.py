"""Reads tables of TOML into dataclasses, and says exactly what does not fit.

The dataclasses are the schema: a field is a key, its annotation what the key
takes, its default the default. A new field is a new key.
"""

import dataclasses
import datetime
import difflib
import enum
import math
import pathlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from research.runs import errors

Table = TypeVar("Table")
Limits = Mapping[str, tuple[float | int, float | int]]

_PLAIN = {
  bool: "true or false",
  int: "a whole number",
  str: "a text",
  list: "a list",
  datetime.date: "a date such as 2020-03-25",
}


@dataclasses.dataclass(frozen=True)
class Key:
  """A key of a schema.

  Attributes:
    path: dotted, with `[]` for each of several tables.
    kind: its annotation, without None.
    default: `dataclasses.MISSING` where the file must give it.
  """

  path: str
  kind: Any
  default: Any


@dataclasses.dataclass(frozen=True)
class Schema:
  """What a file may say.

  Attributes:
    root: dataclass of the whole file.
    limits: least and most of numbers, by path; others are zero or more.
    elsewhere: what other programs call keys, and their paths here.

  Example:
    >>> @dataclasses.dataclass(frozen=True)
    ... class Town:
    ...   people: int = 100
    >>> Schema(Town, {"people": (1, 1000)}).read({"people": 7})
    Town(people=7)
    >>> Schema(Town).read({"poeple": 7})
    Traceback (most recent call last):
    ...
    research.runs.errors.UserError: poeple: got an unknown key; did you mean...
  """

  root: type
  limits: Limits = dataclasses.field(default_factory=dict)
  elsewhere: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def read(self, raw: Mapping[str, Any]) -> Any:
    """Reads a whole file.

    Args:
      raw: what TOML holds.

    Returns:
      The root.

    Raises:
      UserError: names the key, what it was given, and what it takes.
    """
    return self.table(self.root, raw, "")

  def table(
    self,
    kind: type[Table],
    raw: Any,
    path: str,
    given: Mapping[str, Any] | None = None,
  ) -> Table:
    """Reads one table.

    Args:
      kind: its dataclass.
      raw: the table.
      path: where it is.
      given: values of fields that are no keys of this table.
    """
    if not isinstance(raw, Mapping):
      _refuse(path, raw, "a table")
    hints = typing.get_type_hints(kind)
    values = dict(given or {})
    for name, value in raw.items():
      here = f"{path}.{name}" if path else name
      if name not in hints or name in values:
        self._unknown(here, name, [key for key in hints if key not in values])
      values[name] = self.value(hints[name], value, here)
    for field in dataclasses.fields(typing.cast(Any, kind)):
      if field.name not in values and _default(field) is dataclasses.MISSING:
        where = f"{path}.{field.name}" if path else field.name
        raise errors.UserError(
          f"{where}: got nothing; expected a value: add it"
        )
    return _build(kind, values, set(raw), path)

  def value(self, kind: Any, value: Any, path: str) -> Any:
    """Reads one value."""
    only_float, kind = kind is float, _without_none(kind)
    if kind is float:
      number = self._number(value, path)
      return float(number) if only_float else number
    if dataclasses.is_dataclass(kind):
      return self.table(typing.cast(type, kind), value, path)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (tuple, Sequence):
      return self._sequence(origin, parts, value, path)
    if origin is Mapping:
      return self._mapping(parts[1], value, path)
    if kind is pathlib.Path:
      return pathlib.Path(self.value(str, value, path))
    if issubclass(kind, enum.Enum):
      return choice(kind, value, path)
    if type(value) is not kind:
      _refuse(path, value, _PLAIN[kind])
    if kind is int:
      self._number(value, path)
    return value

  def _number(self, value: Any, path: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, float | int):
      _refuse(path, value, "a number")
    least, most = self.limits.get(path.partition("[")[0], (0, math.inf))
    if not least <= value <= most or math.isinf(value):
      wanted = f"from {least} to {most}"
      if most == math.inf:
        wanted = f"of {least} or more" if least else "that is not negative"
      _refuse(path, value, f"a number {wanted}")
    return value

  def _sequence(
    self, origin: Any, parts: tuple[Any, ...], value: Any, path: str
  ) -> tuple[Any, ...]:
    if not isinstance(value, list):
      _refuse(path, value, "a list")
    if origin is tuple and parts[-1] is not Ellipsis:
      if len(value) != len(parts):
        _refuse(path, value, f"a list of {len(parts)}")
    else:
      parts = (parts[0],) * len(value)
    pairs = zip(parts, value, strict=True)
    return tuple(
      self.value(part, entry, f"{path}[{index}]")
      for index, (part, entry) in enumerate(pairs)
    )

  def _mapping(self, part: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
      _refuse(path, value, "a table")
    return {
      name: self.value(part, entry, f"{path}.{name}")
      for name, entry in value.items()
    }

  def _unknown(self, path: str, name: str, known: list[str]) -> NoReturn:
    paths = {key.path.rpartition(".")[2]: key.path for key in self.keys()}
    near = difflib.get_close_matches(name, known, 1)
    if near:
      hint = f"did you mean {path.removesuffix(name)}{near[0]}?"
    elif other := self.elsewhere.get(name) or paths.get(name):
      hint = f"did you mean {other}?"
    else:
      hint = f"expected one of {', '.join(known)}: mend or remove it"
    raise errors.UserError(f"{path}: got an unknown key; {hint}")

  def keys(self) -> Iterator[Key]:
    """Yields every key of the schema."""
    yield from _keys(self.root, "")


def _keys(kind: Any, prefix: str) -> Iterator[Key]:
  hints = typing.get_type_hints(kind)
  for field in dataclasses.fields(kind):
    inner = _without_none(hints[field.name])
    path = prefix + field.name
    parts = typing.get_args(inner)
    if dataclasses.is_dataclass(inner):
      yield from _keys(inner, path + ".")
    elif parts and dataclasses.is_dataclass(parts[0]):
      yield from _keys(parts[0], path + "[].")
    else:
      yield Key(path, inner, _default(field))


def _default(field: dataclasses.Field) -> Any:
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return field.default


def _without_none(kind: Any) -> Any:
  """Annotations are one kind, or None, or numbers of both kinds."""
  if isinstance(kind, types.UnionType):
    kinds = set(typing.get_args(kind)) - {type(None)}
    return float if float in kinds else kinds.pop()
  return kind


def choice(kind: type[enum.Enum], value: Any, path: str) -> Any:
  """Reads a value that is one of a few names.

  Args:
    kind: the names.
    value: one of them.
    path: where it is.

  Raises:
    UserError: it is none of them; names the nearest.
  """
  known = [member.value for member in kind]
  if value not in known:
    near = difflib.get_close_matches(str(value), known, 1, 0)[0]
    _refuse(path, value, f"one of {', '.join(known)}: did you mean {near!r}?")
  return kind(value)


def _build(
  kind: type[Table], values: dict[str, Any], own: set[str], path: str
) -> Table:
  """Makes a table, or says which of its keys is to blame.

  Tables judge themselves without knowing where they stand. A value that is
  refused by itself is to blame; if there is none, several do not fit together.
  """
  try:
    return kind(**values)
  except errors.UserError as error:
    text = str(error)
  needed = {
    field.name: values[field.name]
    for field in dataclasses.fields(typing.cast(Any, kind))
    if field.name not in own
    and field.name in values
    or _default(field) is dataclasses.MISSING
  }
  blamed = {}
  for name in sorted(own):
    for part, value in _parts(name, values[name]):
      try:
        kind(**(needed | {name: value}))
      except errors.UserError as error:
        blamed[part] = str(error)
        break
  # Said of all values together, if it is the same mistake.
  first = next((part for part in blamed if blamed[part] == text), None)
  if blamed and first is None:
    first = next(iter(blamed))
    text = text if len(blamed) == 1 else blamed[first]
  where = ".".join(filter(None, (path, first)))
  text = text[max(text.find("got "), 0) :]
  raise errors.UserError(f"{where}: {text}" if where else text)


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
  if isinstance(value, Mapping):
    for key, entry in value.items():
      yield f"{name}.{key}", {key: entry}
  yield name, value


def _refuse(path: str, value: Any, wanted: str) -> NoReturn:
  shown = f"{value!r}" if len(repr(value)) < 60 else f"{value!r:.60}..."
  raise errors.UserError(f"{path}: got {shown}; expected {wanted}")
