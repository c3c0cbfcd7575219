import dataclasses
import html.parser
import pathlib
from typing import Any

import pytest
import rich.console

from research import runs
from research.runs import board, claims, files, formats, report


def _claim(**fields: Any) -> runs.Claim:
  base: dict[str, Any] = {
    "id": "a",
    "statement": "A <b>bold</b> claim",
    "paper_value": None,
    "measured": 1.5,
    "unit": "ms",
    "kind": "measured",
    "scope": "paper",
    "holds": True,
  }
  return runs.Claim(**base | fields)


def _entry(**fields: Any) -> report.Entry:
  base: dict[str, Any] = {
    "slug": "toy",
    "title": "Toy & co",
    "arxiv": "1234.56789",
    "about": "About toys.",
    "headline": "a",
    "state": "planned",
  }
  return report.Entry(**base | fields)


def _done(folder: pathlib.Path, *made: runs.Claim) -> report.Entry:
  claims.save(
    runs.Result(paper="toy", config={"size": "laptop"}, claims=made),
    folder / "result.json",
  )
  run = {
    "commit": "0123456789ab",
    "dirty": False,
    "seed": 0,
    "started": "2026-11-22T20:00:00+00:00",
    "devices": ["1 × cpu"],
    "earlier": [],
  }
  files.write_json(folder / "run.json", run)
  return _entry(state="done", seconds=1.0, workdir=folder)


def _page(folder: pathlib.Path, *entries: report.Entry, **fields: Any) -> str:
  path = folder / "report.html"
  options: dict[str, Any] = {
    "machine": {"Machine": "m"},
    "written": "now",
    "complete": True,
  }
  report.write(path, entries, **options | fields)
  return path.read_text()


class _Tags(html.parser.HTMLParser):
  """Checks that tags close in order, and keeps rows and meta tags."""

  VOID = ("meta", "link", "br", "img", "use", "path", "image", "rect")

  def __init__(self):
    super().__init__()
    self.open: list[str] = []
    self.claims: list[str] = []
    self.refresh = False

  def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
    found = dict(attrs)
    self.refresh |= found.get("http-equiv") == "refresh"
    if "data-claim" in found:
      self.claims.append(found["data-claim"] or "")
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]):
    pass

  def handle_endtag(self, tag: str):
    if tag not in self.VOID:
      assert self.open.pop() == tag


def _parse(page: str) -> _Tags:
  tags = _Tags()
  tags.feed(page)
  assert tags.open == []
  return tags


def test_the_page_is_well_formed_and_escaped(tmp_path: pathlib.Path):
  page = _page(tmp_path, _done(tmp_path / "toy", _claim()))
  assert _parse(page).claims == ["toy/a"]
  assert "A &lt;b&gt;bold&lt;/b&gt; claim" in page
  assert "Toy &amp; co" in page


def test_the_page_reloads_itself_until_it_is_complete(tmp_path: pathlib.Path):
  entry = _entry(state="running", seconds=3.0, detail="windows 3/20")
  page = _page(tmp_path, entry, complete=False)
  assert _parse(page).refresh
  assert "windows 3/20" in page
  assert not _parse(_page(tmp_path, entry)).refresh


def test_rows_put_recorded_claims_beside_those_of_here():
  here = runs.Result(paper="t", config={}, claims=(_claim(measured=2.0),))
  full = runs.Result(
    paper="t",
    config={},
    claims=(
      _claim(kind="recorded", measured=3.0, holds=False),
      _claim(id="b", kind="recorded", holds=None),
    ),
  )
  first, second = report.rows(here, full)
  assert first.claim is first.here
  assert first.claim.measured == 2.0
  assert first.full is not None
  assert first.full.measured == 3.0
  assert second.here is None
  assert second.claim.kind == "recorded"
  assert report.tally([first, second]) == {
    "holds": 1,
    "fails": 0,
    "not judged": 1,
  }


def test_recorded_claims_show_where_nothing_ran(tmp_path: pathlib.Path):
  entry = _done(tmp_path / "full", _claim())
  files.write_json(
    tmp_path / "full" / "run.json",
    files.read_json(tmp_path / "full" / "run.json")
    | {"machine": {"cpu": "a cpu"}, "seconds": 4000.0},
  )
  skipped = dataclasses.replace(
    entry, state="skipped", workdir=None, recorded=tmp_path / "full"
  )
  page = _page(tmp_path, skipped)
  assert _parse(page).claims == ["toy/a"]
  assert "recorded at 0123456789 on 2026-11-22" in page
  assert "took 1 h 06 min" in page


def test_planned_papers_are_listed_without_a_section(tmp_path: pathlib.Path):
  page = _page(tmp_path, _entry())
  assert "not built yet" in page
  assert '<section id="toy"' not in page


def test_every_state_has_a_word_and_a_row(tmp_path: pathlib.Path):
  for state in report.STATES:
    if state != "done":
      page = _page(tmp_path, _entry(state=state))
      assert f'class="state {state}">{report.STATES[state]}<' in page


def test_the_board_prints_a_line_for_each_change(tmp_path: pathlib.Path):
  entry = _done(tmp_path, _claim())
  entry.state, entry.seconds, entry.detail = "queued", None, ""
  console = rich.console.Console(
    file=(tmp_path / "out").open("w+"), width=200, force_terminal=False
  )
  with board.Board([entry], console) as shown, console.file:
    entry.state = "running"
    shown.refresh()
    shown.refresh()
    entry.state, entry.seconds = "done", 75.0
    shown.refresh()
    lines = (tmp_path / "out").read_text().splitlines()
  assert lines == [
    "toy running",
    "toy done (1 min 15 s): holds: A <b>bold</b> claim (1.5 ms)",
  ]


def test_the_table_shows_all_papers(tmp_path: pathlib.Path):
  console = rich.console.Console(width=90, record=True, quiet=True)
  entries = [
    _done(tmp_path, _claim(holds=False)),
    _entry(slug="late", state="failed", detail="error: [red]no[/red]"),
  ]
  with console.capture() as captured:
    console.quiet = False
    console.print(board.table(entries))
  text = captured.get()
  assert "fails: A <b>bold</b> claim (1.5 ms)" in text
  assert "error: [red]no[/red]" in text


@pytest.mark.parametrize(
  ("value", "unit", "text"),
  [
    (31.0, "%", "31%"),
    (12345.678, "tokens/s", "12,346 tokens/s"),
    (-0.00002, "", "−2 × 10⁻⁵"),
    (None, "ms", "–"),
    ("every head", "", "every head"),
  ],
)
def test_values_read_well(value: Any, unit: str, text: str):
  assert formats.with_unit(value, unit) == text
