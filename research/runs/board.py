"""The live table of papers on the terminal."""

import contextlib
from collections.abc import Sequence

import rich.console
import rich.live
import rich.table
from rich import text as rich_text

from research.runs import formats, report

_STYLES: dict[report.State, str] = {
  "planned": "dim",
  "skipped": "yellow",
  "queued": "dim",
  "running": "bold cyan",
  "done": "green",
  "failed": "bold red",
  "stopped": "yellow",
}


class Board(contextlib.AbstractContextManager["Board"]):
  """Shows how far each paper is: a table that updates itself, or plain lines.

  Off a terminal a line appears only when a paper changes its state, so that a
  log stays short.
  """

  def __init__(
    self,
    entries: Sequence[report.Entry],
    console: rich.console.Console | None = None,
  ):
    """Prepares the board.

    Args:
      entries: the papers; the board reads them again on each `refresh`.
      console: where to show it; the standard output by default.
    """
    self._entries = entries
    self._console = console or rich.console.Console(soft_wrap=True)
    self._shown = {entry.slug: entry.state for entry in entries}
    self._live: rich.live.Live | None = None

  def __enter__(self) -> "Board":
    if self._console.is_terminal:
      self._live = rich.live.Live(console=self._console, auto_refresh=False)
      self._live.start()
    self.refresh()
    return self

  def __exit__(self, *_: object) -> None:
    self.refresh()
    if self._live:
      self._live.stop()

  def refresh(self) -> None:
    """Shows what has changed."""
    if self._live:
      self._live.update(table(self._entries), refresh=True)
      return
    for entry in self._entries:
      if self._shown[entry.slug] != entry.state:
        self._shown[entry.slug] = entry.state
        self._console.print(_line(entry), markup=False, highlight=False)


def table(entries: Sequence[report.Entry]) -> rich.table.Table:
  """Returns the table: paper, state, time, headline claim."""
  grid = rich.table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
  grid.add_column("paper", no_wrap=True)
  grid.add_column("state", no_wrap=True)
  grid.add_column("time", justify="right", no_wrap=True)
  grid.add_column("headline claim", overflow="fold")
  for entry in entries:
    style = _STYLES[entry.state]
    grid.add_row(
      rich_text.Text(entry.slug),
      rich_text.Text(report.STATES[entry.state], style=style),
      formats.duration(entry.seconds) if entry.seconds is not None else "",
      rich_text.Text(_headline(entry)),
    )
  return grid


def _line(entry: report.Entry) -> str:
  ended = entry.state in ("done", "failed", "stopped")
  time = f" ({formats.duration(entry.seconds)})" if ended else ""
  headline = _headline(entry)
  tail = f": {headline}" if headline else ""
  return f"{entry.slug} {report.STATES[entry.state]}{time}{tail}"


def _headline(entry: report.Entry) -> str:
  claim = entry.headline_claim
  if claim is None:
    return entry.detail
  value = formats.with_unit(claim.measured, claim.unit)
  return f"{formats.verdict(claim.holds)}: {claim.statement} ({value})"
