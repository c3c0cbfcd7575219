"""Reproduces toy papers: python reproduce_worker.py ROOT OUT [SLUG...]."""

import pathlib
import signal
import sys

from experiments import papers, reproduce

ROOT, OUT, SLUGS = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]

TOYS = {
  "pi": papers.Paper(
    slug="pi",
    title="Darts: a study",
    arxiv="1234.56789",
    about="Pi by throwing darts.",
    status="available",
    headline="pi",
    needs_data=("a-board",),
  ),
  "crash": papers.Paper(
    slug="crash",
    title="An experiment that fails",
    arxiv="1234.00001",
    about="Fails at once.",
    status="available",
    headline="none",
  ),
  "picky": papers.Paper(
    slug="picky",
    title="An experiment that needs a program",
    arxiv="1234.00002",
    about="Cannot run here.",
    status="available",
    headline="none",
    needs_programs=("no-such-program",),
  ),
  "later": papers.Paper(
    slug="later",
    title="An experiment for later",
    arxiv="1234.00003",
    about="Is not built.",
  ),
}

if __name__ == "__main__":
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  sys.exit(
    reproduce.reproduce(
      reproduce.Plan(
        papers=[TOYS[slug] for slug in SLUGS or TOYS],
        size="laptop",
        out=pathlib.Path(OUT),
        root=ROOT,
        package="toys",
      )
    )
  )
