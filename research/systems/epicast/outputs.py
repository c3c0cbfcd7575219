"""Tables that a run leaves behind, as Parquet and as CSV."""

import hashlib
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from research.runs import errors, files
from research.systems.epicast import checkpoint, engine
from research.systems.epicast.disease import Stage
from research.systems.epicast.population import tables
from research.systems.epicast.scenario import compiling

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Table = dict[str, np.ndarray]  # columns of one length

COLUMNS = {
  "replicate": "which run of the scenario",
  "day": "of the run, from 0",
  "context": "where contacts are, of `disease.CONTEXTS`",
  "date": "of the day, if the scenario has a start date",
  "fips": "code of the county where people live; none for all counties",
  "new_infections": "residents infected that day",
  "new_symptomatic": "residents who got symptoms that day",
  "fearful": "residents who are fearful at its end",
  "age": "group, in years",
  "residents": "people who live there",
  "infected": "of them, infected by the end of the run, index cases too",
  "symptomatic": "of the infected, those who got symptoms",
  "replicates": "how many have a value; quantiles are over them",
  "mean": "over replicates",
  **{f"q{100 * q:02.0f}": f"quantile {q} over replicates" for q in QUANTILES},
  **{
    f"stage_{stage.name.lower()}": f"residents in {stage.name} at its end"
    for stage in Stage
    if stage != Stage.ABSENT
  },
}
_STAGES = [stage for stage in Stage if stage != Stage.ABSENT]


def daily(
  model: compiling.Model, replicate: int, first: int, days: list[engine.Daily]
) -> Table:
  """Counts by day and county, a row each.

  Args:
    model: that ran.
    replicate: which run of it.
    first: day of the first entry.
    days: what the engine told, in order.

  Returns:
    Columns of `COLUMNS`; those of output level 1, or all.
  """
  fips = model.population.fips
  counts = {
    name: np.concatenate([np.asarray(getattr(part, name)) for part in days])
    for name in engine.Daily._fields
  }
  rows = len(counts["infections"])
  day = np.repeat(np.arange(first, first + rows, dtype=np.int32), len(fips))
  start = model.scenario.start_date
  columns = {
    "replicate": np.full(len(day), replicate, np.int32),
    "day": day,
    "date": np.datetime64(start if start else "NaT", "D") + day,
    "fips": np.tile(fips.astype(np.int32), rows),
    "new_infections": counts["infections"].ravel(),
  }
  if model.scenario.output_level >= 5:
    columns["new_symptomatic"] = counts["symptomatic"].ravel()
    columns["fearful"] = counts["fearful"].ravel()
    for stage in _STAGES:
      name = f"stage_{stage.name.lower()}"
      columns[name] = counts["stages"][:, :, stage].ravel()
  return columns


def ages(model: compiling.Model, replicate: int, state: engine.State) -> Table:
  """Who was infected by the end, by county and age, a row each.

  Args:
    model: that ran.
    replicate: which run of it.
    state: after the last day.
  """
  people = model.population
  stage = np.asarray(checkpoint.canonical(model.world, state)["stage"])
  cell = people.county[people.home_community] * len(tables.AGES) + people.age
  number = len(people.fips) * len(tables.AGES)
  count = lambda who: np.bincount(cell[who], minlength=number).astype(np.int32)
  ill = (stage == Stage.IS) | (stage == Stage.RS)
  return {
    "replicate": np.full(number, replicate, np.int32),
    "fips": np.repeat(people.fips.astype(np.int32), len(tables.AGES)),
    "age": np.array(tables.AGES * len(people.fips), object),
    "residents": count(np.full(len(cell), True)),
    "infected": count(stage != Stage.S),
    "symptomatic": count(ill),
  }


def join(parts: Sequence[Table]) -> Table:
  """Puts tables of the same columns one below the other."""
  return {
    name: np.concatenate([part[name] for part in parts]) for name in parts[0]
  }


def write(path: pathlib.Path, table: Table) -> None:
  """Replaces a file in one step; NaN, NaT and None become null.

  Args:
    path: ends in `.parquet` or `.csv`.
    table: its columns.
  """
  pa, csv, parquet = _arrow()
  rows = pa.table(
    {name: pa.array(col, from_pandas=True) for name, col in table.items()}
  )
  stream = io.BytesIO()
  if path.suffix == ".csv":
    csv.write_csv(rows, stream)
  else:
    parquet.write_table(rows, stream)
  files.write_bytes(path, stream.getvalue())


def write_both(
  folder: pathlib.Path,
  name: str,
  table: Table,
  meanings: Mapping[str, str] = COLUMNS,
) -> dict[str, Any]:
  """Writes a table as `name.parquet` and `name.csv`.

  Args:
    folder: where.
    name: without ending.
    table: its columns.
    meanings: of columns, by name.

  Returns:
    For the manifest: rows, what columns mean, SHA-256 of the files.
  """
  digests = {}
  for end in ("parquet", "csv"):
    path = folder / f"{name}.{end}"
    write(path, table)
    digests[end] = hashlib.sha256(path.read_bytes()).hexdigest()
  return {
    "rows": len(next(iter(table.values()))),
    "columns": {key: meanings[key] for key in table},
    "sha256": digests,
  }


def read(path: pathlib.Path) -> Table:
  """Reads a Parquet file.

  Args:
    path: of the file.

  Raises:
    UserError: it is not there, or damaged.
  """
  pa, _, parquet = _arrow()
  try:
    table = parquet.read_table(path)
  except (OSError, pa.ArrowInvalid) as error:
    reason = (str(error).splitlines() or [""])[0][:100]
    raise errors.UserError(
      f"cannot read {path}: {reason!r}; remove its folder to run again"
    ) from None
  return {
    name: table[name].to_numpy(zero_copy_only=False)
    for name in table.column_names
  }


def _arrow() -> tuple[Any, Any, Any]:
  """PyArrow, which imports of this module do without."""
  try:
    import pyarrow
    from pyarrow import csv, parquet
  except ModuleNotFoundError:
    raise errors.UserError(
      "got no pyarrow, expected it for tables; pip install 'dectet[parquet]'"
    ) from None
  return pyarrow, csv, parquet
