"""The report: one file, readable offline from a phone to paper.

It is written before the first paper starts and again whenever something
changes; while papers run, the page reloads itself.
"""

import dataclasses
import functools
import importlib.resources
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import jinja2
import markupsafe

from research.runs import claims, files, formats, inline

State = Literal[
  "planned", "skipped", "queued", "running", "done", "failed", "stopped"
]

STATES: dict[State, str] = {
  "planned": "not built yet",
  "skipped": "skipped",
  "queued": "waiting",
  "running": "running",
  "done": "done",
  "failed": "failed",
  "stopped": "stopped",
}


@dataclasses.dataclass(kw_only=True)
class Entry:
  """One paper in the report, as far as it has come.

  Attributes:
    slug: the paper's name here.
    title: what it is called.
    arxiv: its arXiv id.
    about: what it is, in one line.
    headline: the id of the claim shown in the summary.
    state: how far it has come.
    minutes: how long it was expected to take.
    seconds: how long it took, or has taken so far.
    detail: why it was skipped or failed, or what it is doing.
    says: what the paper reports, in one line.
    command: how to run it again.
    workdir: the folder of its run.
    recorded: the folder of a committed full run, if there is one.
  """

  slug: str
  title: str
  arxiv: str
  about: str
  headline: str
  state: State
  minutes: float | None = None
  seconds: float | None = None
  detail: str = ""
  says: str = ""
  command: str = ""
  workdir: pathlib.Path | None = None
  recorded: pathlib.Path | None = None

  @property
  def result(self) -> claims.Result | None:
    """What its run wrote, once it is done."""
    if self.state != "done" or self.workdir is None:
      return None
    return claims.load(self.workdir / "result.json")

  @property
  def headline_claim(self) -> claims.Claim | None:
    """The claim for the summary."""
    result = self.result
    return result.claim(self.headline) if result else None


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a claims table.

  Attributes:
    claim: what is judged: measured here, or else recorded.
    here: the claim as it came out here, if it did.
    full: the same claim of the recorded run, if there is one.
  """

  claim: claims.Claim
  here: claims.Claim | None
  full: claims.Claim | None


@dataclasses.dataclass(frozen=True)
class _Section:
  """A paper's part of the page; see the template for what each is."""

  entry: Entry
  rows: Sequence[Row]
  bench: Sequence[Any]
  figures: Sequence[inline.Figure]
  run: dict[str, Any] | None
  full: dict[str, Any] | None


def write(
  path: pathlib.Path,
  entries: Sequence[Entry],
  *,
  machine: dict[str, str],
  written: str,
  complete: bool,
) -> None:
  """Writes the report, in one step.

  Args:
    path: the HTML file.
    entries: one for each paper, in the order of the page.
    machine: facts for the head of the page, by label.
    written: when, in words.
    complete: nothing more will come, so the page need not reload itself.
  """
  sections = [s for s in map(_section, entries) if _is_shown(s)]
  page = _template().render(
    entries=entries,
    sections=sections,
    linked={section.entry.slug for section in sections},
    counts=tally([row for section in sections for row in section.rows]),
    machine=machine,
    written=written,
    complete=complete,
    css=markupsafe.Markup(_resource("report.css")),
  )
  files.write_text(path, page)


def rows(
  here: claims.Result | None, full: claims.Result | None
) -> tuple[Row, ...]:
  """Puts the claims of a run here and of a recorded one side by side."""
  mine = {claim.id: claim for claim in here.claims} if here else {}
  theirs = {claim.id: claim for claim in full.claims} if full else {}
  return tuple(
    Row((theirs | mine)[name], mine.get(name), theirs.get(name))
    for name in dict.fromkeys((*mine, *theirs))
  )


def tally(table: Sequence[Row]) -> dict[str, int]:
  """Counts the verdicts of some rows, by their words."""
  verdicts = [formats.verdict(row.claim.holds) for row in table]
  return {word: verdicts.count(word) for word in formats.VERDICTS.values()}


def _section(entry: Entry) -> _Section:
  here = entry.result
  full = claims.recorded(entry.recorded) if entry.recorded else None
  shown = here or full
  folder = entry.workdir if here else entry.recorded
  return _Section(
    entry=entry,
    rows=rows(here, full),
    bench=shown.bench if shown else (),
    figures=inline.load(folder / "figures", entry.slug) if folder else (),
    run=_read_run(entry.workdir if here else None),
    full=_read_run(entry.recorded),
  )


def _read_run(folder: pathlib.Path | None) -> dict[str, Any] | None:
  return files.read_json(folder / "run.json") if folder else None


def _is_shown(section: _Section) -> bool:
  return bool(section.rows) or section.entry.state != "planned"


@functools.cache
def _template() -> jinja2.Template:
  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(_resource),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {
    "value": formats.value,
    "timing": formats.timing,
    "spread": formats.spread,
    "duration": formats.duration,
    "verdict": formats.verdict,
  }
  shared = {"states": STATES, "dash": formats.DASH, "tally": tally}
  return environment.get_template("report.html.j2", globals=shared)


def _resource(name: str) -> str:
  folder = importlib.resources.files("research.runs") / "templates"
  return (folder / name).read_text(encoding="utf-8")
