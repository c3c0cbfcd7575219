"""Puts SVG figures into an HTML page, many on one page."""

import dataclasses
import html
import pathlib
import re

import markupsafe


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure ready for the page.

  Attributes:
    id: unique on the page.
    title: what it shows.
    caption: how to read it.
    svg: the drawing, its ids unique on the page.
  """

  id: str
  title: str
  caption: str
  svg: markupsafe.Markup


def load(folder: pathlib.Path, prefix: str) -> tuple[Figure, ...]:
  """Reads the figures of a run (see `figures.save`), in order of their names.

  Args:
    folder: holds the SVG files; may be missing.
    prefix: unique for the run; keeps the ids of one run's figures from those
      of another.
  """
  return tuple(
    _figure(path.read_text(encoding="utf-8"), f"{prefix}-{path.stem}")
    for path in sorted(folder.glob("*.svg"))
  )


def _figure(svg: str, name: str) -> Figure:
  title, svg = _take(svg, "title")
  caption, svg = _take(svg, "desc")
  # In a page a style element would hold everywhere; the page's CSS has it.
  svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
  svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
  svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
  svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
  svg = re.sub(r' xmlns="[^"]*"', "", svg, count=1)
  label = html.escape(title, quote=True)
  svg = svg.replace("<svg ", f'<svg aria-label="{label}" ', 1)
  return Figure(name, title, caption, markupsafe.Markup(svg))


def _take(svg: str, tag: str) -> tuple[str, str]:
  """Returns the text of the first such element, and the rest without it."""
  match = re.search(rf"\s*<{tag}>(.*?)</{tag}>", svg, re.DOTALL)
  if match is None:
    return "", svg
  text = html.unescape(match[1]).strip()
  return text, svg[: match.start()] + svg[match.end() :]
