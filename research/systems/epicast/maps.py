"""Maps of counties (choropleths), from the Census Bureau's boundaries."""

import contextlib
import math
import pathlib
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from research.data import artifacts
from research.runs import errors, figures

Ring = Float[np.ndarray, "points 2"]
_POLYGON, _MANY = 3, 6  # of well-known binary
_INCHES = 5.0  # height


def boundaries(
  fips: Sequence[int] | np.ndarray, *, offline: bool = False
) -> dict[int, list[Ring]]:
  """Returns the rings of counties' borders; an inner one is a hole.

  Args:
    fips: codes of counties of the United States.
    offline: take the file of all boundaries from the cache, or not at all.

  Returns:
    Longitudes and latitudes in degrees, by code.

  Raises:
    UserError: there is no such county.
    ArtifactError: the boundaries cannot be had.
  """
  path = artifacts.fetch("us-county-boundaries", offline=offline)
  found = {}
  query = "SELECT geometry FROM us_counties WHERE id = ?"
  with contextlib.closing(
    sqlite3.connect(f"file:{path}?mode=ro", uri=True)
  ) as (database):
    for code in sorted({int(code) for code in fips}):
      row = database.execute(query, (f"{code:05d}",)).fetchone()
      if row is None:
        raise errors.UserError(
          f"map: got county {code:05d}, expected one of the United States in "
          "2009; leave it out"
        )
      found[code] = list(_rings(row[0]))
  return found


def choropleth(
  path: pathlib.Path,
  values: Mapping[int, float],
  *,
  title: str,
  caption: str,
  offline: bool = False,
) -> None:
  """Draws counties in the colour of their values, as SVG.

  Args:
    path: the `.svg` file.
    values: by FIPS code, in the unit that `caption` says; grey if it is NaN.
    title: what it shows, in a few words.
    caption: how to read it.
    offline: as for `boundaries`.

  Raises:
    UserError: there is no such county.
    ArtifactError: the boundaries cannot be had.
  """
  borders = boundaries(list(values), offline=offline)
  with figures.style():
    from matplotlib import collections, colormaps
    from matplotlib import path as paths

    figure, axes = figures.subplots(height=_INCHES)
    shapes = [
      paths.Path.make_compound_path(*(paths.Path(ring) for ring in rings))
      for rings in borders.values()
    ]
    colours = colormaps["viridis"].with_extremes(bad="0.8")
    drawn = collections.PathCollection(shapes, linewidths=0.5, cmap=colours)
    shown = np.ma.masked_invalid([values[code] for code in borders])
    drawn.set_array(shown)
    axes.add_collection(drawn)
    axes.autoscale_view()
    middle = sum(axes.get_ylim()) / 2
    axes.set_aspect(1 / math.cos(math.radians(middle)))
    axes.set_axis_off()
    figure.colorbar(drawn, ax=axes, shrink=0.7)
  figures.save(figure, path, title=title, caption=caption)


def _rings(shape: bytes) -> Iterator[Ring]:
  """Rings of a polygon, or of several, in well-known binary."""
  order = "<" if shape[0] else ">"
  (kind,) = struct.unpack_from(f"{order}I", shape, 1)
  at = 5
  if kind == _MANY:
    (number,) = struct.unpack_from(f"{order}I", shape, at)
    at += 4
  elif kind == _POLYGON:
    number, at = 1, 0
  else:
    raise ValueError(f"got a shape of kind {kind}, expected polygons")
  for _ in range(number):
    (rings,) = struct.unpack_from(f"{order}I", shape, at + 5)
    at += 9
    for _ in range(rings):
      (points,) = struct.unpack_from(f"{order}I", shape, at)
      ring = np.frombuffer(shape, f"{order}f8", 2 * points, at + 4)
      at += 4 + 16 * points
      yield ring.reshape(-1, 2)
