"""Prints bench rows."""

from collections.abc import Sequence

import rich.table

from research.telemetry import bench

_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def table(results: Sequence[bench.BenchResult]) -> rich.table.Table:
  """Returns a table of timings, ratios and fractions of the limits.

  A column "vs X" holds how many times faster than X a row is; it is there where
  some row is compared with X.
  """
  headings, rows = _cells(results)
  grid = rich.table.Table()
  for heading in headings:
    grid.add_column(heading, justify="right" if grid.columns else "left")
  for row in rows:
    grid.add_row(*row)
  return grid


def markdown(title: str, results: Sequence[bench.BenchResult]) -> str:
  """Returns the same for a page, with what each row was measured with.

  Args:
    title: what was measured.
    results: its rows.
  """
  headings, rows = _cells(results)
  rule = ["---", *("---:" for _ in headings[1:])]
  lines = [f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)]
  told = [(row.name, notes(row)) for row in results]
  list_of = [f"* {name}: {what}" for name, what in told if what]
  return "\n".join([f"**{title}**", "", *lines, "", *list_of]).rstrip() + "\n"


def _cells(
  results: Sequence[bench.BenchResult],
) -> tuple[list[str], list[list[str]]]:
  """Headings, and the cells of each row."""
  compared = {name for row in results for name in row.ratio_to}
  names = [row.name for row in results if row.name in compared]
  ratios = [f"vs {name}" for name in names]
  headings = ["candidate", "median", "p25 to p75", *ratios]
  rows = []
  for row in results:
    faster = [row.ratio_to.get(name) for name in names]
    share = row.fraction_of_limit
    tried = row.rounds_kept + row.rounds_dropped
    rows.append(
      [
        row.name,
        _quantity(row.median, row.unit),
        _quantity(row.p25, row.unit) + " to " + _quantity(row.p75, row.unit),
        *("" if ratio is None else f"{ratio:.2f}x" for ratio in faster),
        "" if share is None else f"{share:.0%}",
        f"{row.rounds_kept} of {tried}",
        row.verdict,
      ]
    )
  return [*headings, "of limit", "rounds", "verdict"], rows


def notes(result: bench.BenchResult) -> str:
  """Returns what a row was measured with, but for what every row has."""
  usual = {"first_call_s", "free_cores"}
  told = {name: x for name, x in result.meta.items() if name not in usual}
  return ", ".join(f"{name} {value}" for name, value in told.items())


def _quantity(value: float | None, unit: str) -> str:
  """Returns three digits with a prefix on seconds: 0.0123 s is 12.3 ms."""
  if value is None:
    return "-"
  if not unit.startswith("s"):
    return f"{value:.3g} {unit}"
  scale, prefix = next(
    (pair for pair in _PREFIXES if value >= pair[0]), _PREFIXES[-1]
  )
  return f"{value / scale:.3g} {prefix}{unit}"
