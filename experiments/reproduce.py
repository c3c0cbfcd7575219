"""Runs every paper that is built and fills one report.

  python -m experiments.reproduce --out=out/reproduce [--paper=plexus]

The report is there from the first second and fills as papers finish, cheapest
first. A paper that fails is shown as failed and stops no other. The same
command again goes on where it was stopped, and runs nothing twice.
"""

import dataclasses
import datetime
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from absl import app, flags

from experiments import papers as papers_lib
from research import runs
from research.cluster import children, probe
from research.runs import board as board_lib
from research.runs import config as config_lib
from research.runs import files, formats, provenance, report

_OUT = flags.DEFINE_string("out", "out/reproduce", "Folder for all files.")
_PAPER = flags.DEFINE_string("paper", None, "Run one paper, by its slug.")
_CONFIG = flags.DEFINE_string("config", "laptop", "Which config of each paper.")

_REPORT_SECONDS = 5.0  # between two writings of the report
_GRACE_SECONDS = 10.0  # for a run to end after an interrupt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What to run, and where.

  Attributes:
    papers: the papers of the report.
    size: which config of each, e.g. `laptop`.
    out: the folder that gets the report and a workdir for each paper.
    root: the folder that the experiments' package lies in.
    package: the package of the experiments.
  """

  papers: Sequence[papers_lib.Paper]
  size: str
  out: pathlib.Path
  root: pathlib.Path
  package: str = "experiments"


def select(
  papers: Sequence[papers_lib.Paper], slug: str | None
) -> list[papers_lib.Paper]:
  """Returns all papers, or the one that is asked for.

  Raises:
    UserError: there is no such paper, or it is not built yet.
  """
  if slug is None:
    return list(papers)
  built = [p.slug for p in papers if p.status == "available"]
  for paper in papers:
    if paper.slug == slug and paper.status == "available":
      return [paper]
  known = any(paper.slug == slug for paper in papers)
  raise runs.UserError(
    f"got --paper={slug}{', which is not built yet' if known else ''}, "
    f"expected one of: {', '.join(built)}"
  )


def reproduce(plan: Plan) -> int:
  """Runs a plan and returns the exit code.

  Args:
    plan: what to run.

  Returns:
    0 when every paper that could run did, whatever its claims came to; 1 when
    one failed; 130 when interrupted.
  """
  folder = runs.Workdir(plan.out)
  with folder.hold():
    run = _Run(plan)
    print(preflight(plan, run.entries), flush=True)
    try:
      with board_lib.Board(run.entries) as board:
        for entry in run.entries:
          if entry.state == "queued":
            run.paper(entry, board)
    except KeyboardInterrupt:
      run.stop()
      print("interrupted; the same command goes on from here")
      return 130
    run.write(complete=True)
    print(f"report: {plan.out / 'report.html'}")
    return int(any(entry.state == "failed" for entry in run.entries))


def preflight(plan: Plan, entries: Sequence[report.Entry]) -> str:
  """Says what will run, what is skipped and why, and how long it should take.

  Args:
    plan: what to run.
    entries: the papers with their first states, as from `_entries`.
  """
  data = {paper.slug: paper.needs_data for paper in plan.papers}
  lines = ["Will run, cheapest first:"]
  queued = [entry for entry in entries if entry.state == "queued"]
  for entry in queued:
    needs = ", ".join(data[entry.slug])
    fetches = f", needs {needs} (fetched once)" if needs else ""
    expected = formats.duration(60 * (entry.minutes or 0.0))
    lines.append(f"  {entry.slug}: about {expected}{fetches}")
  if not queued:
    lines.append("  nothing")
  for entry in entries:
    if entry.state == "skipped":
      lines.append(f"Skipped: {entry.slug}: {entry.detail}")
  planned = [entry.slug for entry in entries if entry.state == "planned"]
  if planned:
    lines.append(f"Not built yet: {', '.join(planned)}")
  total = 60 * math.fsum(entry.minutes or 0.0 for entry in queued)
  lines.append(f"Expected: about {formats.duration(total)} on 2 cores")
  lines.append(f"Report: {plan.out / 'report.html'} (fills as papers finish)")
  return "\n".join(lines)


class _Run:
  """One pass over a plan."""

  def __init__(self, plan: Plan):
    self.entries = _entries(plan)
    self._plan = plan
    self._machine = _machine(plan.root)
    self._written = 0.0
    self._process: subprocess.Popen[bytes] | None = None
    self.write(complete=False)

  def write(self, *, complete: bool) -> None:
    """Writes the report."""
    self._written = time.monotonic()
    now = datetime.datetime.now(datetime.UTC)
    report.write(
      self._plan.out / "report.html",
      self.entries,
      machine=self._machine,
      written=f"{now:%-d %B %Y, %H:%M:%S} UTC",
      complete=complete,
    )

  def paper(self, entry: report.Entry, board: board_lib.Board) -> None:
    """Runs one paper to its end, whatever that is."""
    assert entry.workdir is not None
    entry.workdir.mkdir(parents=True, exist_ok=True)
    entry.state = "running"
    start = time.monotonic()
    log = entry.workdir / "log.txt"
    with log.open("ab") as stream:
      begin = stream.tell()
      self._process = _start(self._plan, entry, stream.fileno())
      while self._process.poll() is None:
        entry.seconds = time.monotonic() - start
        entry.detail = _last_line(log, begin)
        board.refresh()
        if time.monotonic() - self._written > _REPORT_SECONDS:
          self.write(complete=False)
        time.sleep(0.2)
    code, self._process = self._process.returncode, None
    entry.detail = _last_line(log, begin)
    _finish(entry, code)
    board.refresh()
    self.write(complete=False)

  def stop(self) -> None:
    """Ends the running paper and leaves a report that says so."""
    if self._process is not None:
      self._process.send_signal(signal.SIGINT)
      try:
        self._process.wait(_GRACE_SECONDS)
      except subprocess.TimeoutExpired:
        self._process.kill()
        self._process.wait()
    for entry in self.entries:
      if entry.state in ("running", "queued"):
        entry.state = "stopped"
        entry.detail = "interrupted; the same command goes on from here"
    self.write(complete=True)


def _entries(plan: Plan) -> list[report.Entry]:
  """Decides what runs: first what can, cheapest first; then the rest."""
  entries = [_entry(plan, paper) for paper in plan.papers]
  ranks = {"queued": 0, "skipped": 1, "planned": 2}
  return sorted(entries, key=lambda e: (ranks[e.state], e.minutes or 0.0))


def _entry(plan: Plan, paper: papers_lib.Paper) -> report.Entry:
  entry = report.Entry(
    slug=paper.slug,
    title=paper.title,
    arxiv=paper.arxiv,
    about=paper.about,
    headline=paper.headline,
    state="planned",
  )
  if paper.status == "planned":
    return entry
  folder = pathlib.Path(plan.package.replace(".", "/")) / paper.slug
  config = folder / "configs" / f"{plan.size}.py"
  recorded = plan.root / folder / "results" / "full"
  if (recorded / "result.json").exists():
    entry.recorded = recorded
  entry.state = "skipped"
  missing = [p for p in paper.needs_programs if shutil.which(p) is None]
  if missing:
    entry.detail = (
      f"needs the program {missing[0]}, which is not on PATH; install it "
      "(third_party/apt.txt)"
    )
  elif not (plan.root / config).exists():
    entry.detail = f"has no config {plan.size}.py"
  else:
    header = config_lib.describe(plan.root / config)
    entry.state = "queued"
    entry.minutes = header.minutes
    entry.says = header.paper_value
    entry.workdir = plan.out / paper.slug
    entry.command = (
      f"python -m {plan.package}.{paper.slug}.main --config={config} "
      f"--workdir={entry.workdir}"
    )
  return entry


def _start(
  plan: Plan, entry: report.Entry, log: int
) -> subprocess.Popen[bytes]:
  """Starts a paper in a session of its own, so that Ctrl-C is ours alone."""
  _, *arguments, _ = entry.command.split(" ")
  assert entry.workdir is not None
  command = [
    sys.executable,
    *arguments,
    f"--workdir={entry.workdir.absolute()}",
  ]
  return subprocess.Popen(
    children.dying_with_parent(command),
    cwd=plan.root,
    env=os.environ | {"PYTHONUNBUFFERED": "1"},
    stdin=subprocess.DEVNULL,
    stdout=log,
    stderr=subprocess.STDOUT,
    start_new_session=True,
  )


def _finish(entry: report.Entry, code: int) -> None:
  """Sets the last state of a paper from its exit code and its files."""
  assert entry.workdir is not None
  if code != 0:
    entry.state = "failed"
    entry.detail = entry.detail or f"ended with code {code} and said nothing"
    return
  entry.state = "done"
  entry.seconds = files.read_json(entry.workdir / "run.json")["seconds"]


def _last_line(log: pathlib.Path, begin: int) -> str:
  """Returns the last line that a run wrote to its log since `begin`."""
  with log.open("rb") as stream:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(begin, size - 2000))
    lines = stream.read().decode(errors="replace").splitlines()
  return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _machine(root: pathlib.Path) -> dict[str, str]:
  """Returns the facts for the head of the report."""
  facts = probe.machine()
  commit, dirty = provenance.commit_of(root)
  cpu = str(facts["cpu"]).replace("(R)", "").replace("(TM)", "")
  memory = int(facts["memory_bytes"]) / 1e9
  return {
    "Machine": f"{cpu}, {facts['cores']} cores, {memory:.0f} GB",
    "System": f"{facts['system']}, Python {facts['python']}",
    "Software": f"jax {facts['jax']}, flax {facts['flax']}",
    "Commit": commit[:10] + (" with local changes" if dirty else ""),
  }


def main(argv: Sequence[str]) -> int:
  """Runs the plan that the flags describe."""
  if len(argv) > 1:
    raise app.UsageError(f"got {argv[1]!r}, expected flags only")
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    return reproduce(
      Plan(
        papers=select(papers_lib.PAPERS, _PAPER.value),
        size=_CONFIG.value,
        out=pathlib.Path(_OUT.value),
        root=pathlib.Path(__file__).parents[1],
      )
    )
  except runs.UserError as error:
    return runs.report_user_error(error)


if __name__ == "__main__":
  runs.launch(main)
