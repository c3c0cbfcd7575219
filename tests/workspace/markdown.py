"""Reads the tables, code and links of our Markdown pages."""

import re


def table(text: str, heading: str) -> list[dict[str, str]]:
  """Returns the rows of the first table under a heading, by column."""
  lines = text.split(f"\n{heading}\n", 1)[1].splitlines()
  start = next(i for i, line in enumerate(lines) if line.startswith("|"))
  columns = _cells(lines[start])
  rows = []
  for line in lines[start + 2 :]:
    if not line.startswith("|"):
      break
    rows.append(dict(zip(columns, _cells(line), strict=True)))
  return rows


def names(cell: str) -> list[str]:
  """Returns what a cell writes in backquotes."""
  return re.findall(r"`([^`]+)`", cell)


def code(text: str, language: str) -> list[str]:
  """Returns the fenced blocks of a language."""
  return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def links(text: str) -> list[str]:
  """Returns the targets of links and images, outside of fenced code."""
  prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
  return re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(text: str) -> set[str]:
  """Returns the fragments under which a page's headings are found."""
  prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
  titles = re.findall(r"^#+ (.*)$", prose, re.M)
  return {
    re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
    for title in titles
  }


def _cells(line: str) -> list[str]:
  return [cell.strip() for cell in line.strip().strip("|").split("|")]
