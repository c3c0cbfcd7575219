"""Readers of ExaEpi's layouts: census `.dat`, flows `.bin`/`.dat`, `.cases`."""

import os
import pathlib

import numpy as np

from research.runs import errors
from research.systems.epicast.population import tables

_COLUMNS = 17  # tract, people, workers, FIPS, census tract, 5 ages, 7 sizes
_FLOW = 3  # home, work, workers


def read(path: pathlib.Path) -> bytes:
  """Reads a file.

  Args:
    path: of the file.

  Raises:
    UserError: it cannot be read.
  """
  try:
    return path.read_bytes()
  except OSError as error:
    raise errors.UserError(
      f"cannot read {path}: {error.strerror}; give the path of a file"
    ) from None


def census(path: str | os.PathLike[str]) -> tables.Census:
  """Reads census tracts.

  The first line is the number of tracts. Then a line a tract: identifier,
  people, day workers, FIPS code of the county, tract code, people in 5 age
  groups, households of 1 to 7 people.

  Args:
    path: a `.dat` file.

  Raises:
    UserError: names the line, and what is wrong with it.
  """
  path = pathlib.Path(path)
  lines = _lines(path)
  head = lines[0].split() if lines else []
  if len(head) != 1 or not head[0].isdigit() or int(head[0]) != len(lines) - 1:
    raise errors.UserError(
      f"{path.name}, line 1: got {' '.join(head)!r}; expected the number of "
      f"tracts below, which is {max(len(lines) - 1, 0)}: is the file whole?"
    )
  table = _integers(path, lines[1:], _COLUMNS, first=2)
  found = tables.Census(
    tract=table[:, 0],
    fips=table[:, 3],
    day_workers=table[:, 2],
    ages=table[:, 5:10],
    households=table[:, 10:],
  )
  _reject(
    path, found.people != table[:, 1], 2, "the people of all ages are not the"
    " tract's people; expected the same number: mend the line"
  )  # fmt: skip
  _reject(
    path, found.ages[:, 2:].sum(1) < found.households.sum(1), 2, "fewer adults"
    " than households; expected one in each at least: mend the line"
  )  # fmt: skip
  _reject(path, _repeated(found.tract), 2, "a tract for the second time")
  return found


def flows(path: str | os.PathLike[str]) -> tables.Flows:
  """Reads workers between tracts.

  Args:
    path: `.bin` holds little-endian triples of 32 bits (home, work, workers),
      any other ending the same as text.

  Raises:
    UserError: the file is cut, or a pair of tracts comes twice.
  """
  path = pathlib.Path(path)
  if path.suffix == ".bin":
    raw = read(path)
    if len(raw) % (4 * _FLOW):
      raise errors.UserError(
        f"{path.name}: got {len(raw)} bytes; expected triples of 12 bytes: "
        "the file is cut, fetch it again"
      )
    table = np.frombuffer(raw, "<u4").reshape(-1, _FLOW).astype(np.int64)
  else:
    table = _integers(path, _lines(path), _FLOW, first=1)
  pairs = table[:, 0] << 32 | table[:, 1]
  _reject(path, _repeated(pairs), 1, "a flow for the second time")
  return tables.Flows(table[:, 0], table[:, 1], table[:, 2])


def cases(path: str | os.PathLike[str]) -> tables.Cases:
  """Reads index cases: a line a county, FIPS code and number.

  Args:
    path: a `.cases` file.

  Raises:
    UserError: names the line, and what is wrong with it.
  """
  path = pathlib.Path(path)
  table = _integers(path, _lines(path), 2, first=1)
  _reject(path, _repeated(table[:, 0]), 1, "a county for the second time")
  return tables.Cases(table[:, 0], table[:, 1])


def _lines(path: pathlib.Path) -> list[str]:
  return read(path).decode(errors="replace").splitlines()


def _integers(
  path: pathlib.Path, lines: list[str], width: int, first: int
) -> np.ndarray:
  """Whole numbers from 0 to 2^32 - 1, so many on each line."""
  rows = [line.split() for line in lines]
  for number, row in enumerate(rows, first):
    if len(row) != width:
      raise errors.UserError(
        f"{path.name}, line {number}: got {len(row)} fields, expected "
        f"{width}: mend the line"
      )
    bad = [word for word in row if not word.isdecimal() or len(word) > 10]
    if bad:
      raise errors.UserError(
        f"{path.name}, line {number}: got {bad[0]!r}, expected a whole number "
        "that is not negative: mend the line"
      )
  return np.array(rows, np.int64).reshape(-1, width)


def _repeated(values: np.ndarray) -> np.ndarray:
  first = np.zeros(len(values), bool)
  first[np.unique(values, return_index=True)[1]] = True
  return ~first


def _reject(path: pathlib.Path, bad: np.ndarray, first: int, what: str) -> None:
  if bad.any():
    line = int(np.argmax(bad)) + first
    raise errors.UserError(f"{path.name}, line {line}: got {what}")
