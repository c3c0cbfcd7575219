"""One look for every figure: SVG that reads on light and dark, wide and small.

Figures are drawn in the colour of the text around them (`currentColor`) on a
transparent ground, so one file serves both themes. Letters are outlines, so a
formula looks the same on a phone without the fonts; title and caption are text
in the file, for screen readers and for the report.

  with figures.style():
    fig, axes = figures.subplots()
    axes.plot(x, y)
  figures.save(fig, path, title="...", caption="...")
"""

import contextlib
import html
import io
import pathlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from research.runs import errors, files

if TYPE_CHECKING:
  from matplotlib import figure

# Found by search: at least 3:1 against both grounds, and the largest smallest
# distance (OKLab) between any two, also as seen without one kind of cone.
PALETTE = ("#028ef3", "#9c570a", "#cf6bb0", "#337a64", "#809806", "#7659a5")

INK = "#010203"  # no one else's colour: becomes currentColor
_WIDTH = 6.0  # inches; on a phone the figure shrinks to about three quarters

_STYLE = {
  "axes.axisbelow": True,
  "axes.edgecolor": INK,
  "axes.facecolor": "none",
  "axes.grid": True,
  "axes.labelcolor": INK,
  "axes.labelsize": 9.5,
  "axes.linewidth": 0.8,
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.titlecolor": INK,
  "axes.titlelocation": "left",
  "axes.titlesize": 10,
  "axes.titleweight": "bold",
  "figure.constrained_layout.use": True,
  "figure.edgecolor": "none",
  "figure.facecolor": "none",
  "font.size": 9.5,
  "grid.alpha": 0.14,
  "grid.color": INK,
  "grid.linewidth": 0.7,
  "hatch.color": INK,
  "image.cmap": "viridis",
  "legend.fontsize": 9,
  "legend.frameon": False,
  "legend.labelcolor": INK,
  "lines.color": INK,
  "lines.linewidth": 1.8,
  "lines.markersize": 4.5,
  "patch.edgecolor": INK,
  "savefig.facecolor": "none",
  "svg.fonttype": "path",
  "svg.hashsalt": "dectet",  # else the ids of clip paths are random
  "text.color": INK,
  "xtick.color": INK,
  "xtick.labelsize": 9,
  "ytick.color": INK,
  "ytick.labelsize": 9,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
  """Draws whatever the block draws in the house style.

  Raises:
    UserError: matplotlib is not installed.
  """
  matplotlib = _matplotlib()
  cycle = matplotlib.rcsetup.cycler(color=PALETTE)
  with matplotlib.rc_context(_STYLE | {"axes.prop_cycle": cycle}):
    yield


def subplots(
  rows: int = 1, columns: int = 1, *, height: float = 3.4, **options: Any
) -> tuple["figure.Figure", Any]:
  """Makes a figure of the house width, without a window or global state.

  Args:
    rows: rows of axes.
    columns: columns of axes.
    height: height of the figure in inches.
    **options: as for `matplotlib.figure.Figure.subplots`.

  Returns:
    The figure and its axes: one, or an array of them.
  """
  _matplotlib()
  from matplotlib import figure

  fig = figure.Figure(figsize=(_WIDTH, height))
  return fig, fig.subplots(rows, columns, **options)


def save(
  fig: "figure.Figure", path: pathlib.Path, *, title: str, caption: str
) -> None:
  """Writes a figure as SVG, with the same bytes each time.

  Args:
    fig: the figure, drawn inside `style()`.
    path: the `.svg` file.
    title: what it shows, in a few words.
    caption: how to read it, for somebody who has not read the paper. Both go
      into the file, where screen readers and the report find them.
  """
  buffer = io.StringIO()
  bare = {"Date": None, "Creator": None, "Format": None, "Type": None}
  with style():
    fig.savefig(buffer, format="svg", metadata=bare)
  files.write_text(path, _polish(buffer.getvalue(), title, caption))


def _matplotlib() -> Any:
  try:
    import matplotlib
  except ImportError as error:
    raise errors.UserError(
      "figures: got no matplotlib, expected the extra 'viz'; run "
      "pip install 'dectet[viz]'"
    ) from error
  return matplotlib


def _polish(svg: str, title: str, caption: str) -> str:
  """Takes the reader's ink, adds the texts, drops dates and addresses."""
  svg = svg[svg.index("<svg ") :]  # XML declaration and DTD address
  svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
  svg = svg.replace(INK, "currentColor").replace("xlink:href", "href")
  svg = re.sub(r' xmlns:xlink="[^"]*"', "", svg)
  # Sizes in pt would fix the width; the view box alone lets it shrink.
  svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg)
  svg = re.sub(r"\s+\n", "\n", svg)
  texts = (
    f"\n <title>{html.escape(title)}</title>"
    f"\n <desc>{html.escape(caption)}</desc>"
  )
  root, rest = svg.split(">", 1)
  return f'{root} role="img">{texts}{rest}'
