import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from research.runs import figures, inline

SVG = "{http://www.w3.org/2000/svg}"
GROUNDS = ("#fbfaf7", "#141619")  # of report.css, light and dark

# How colours look without one kind of cone (Machado et al. 2009, severity 1),
# on linear RGB.
_SIGHT = {
  "all cones": np.eye(3),
  "protanopia": np.array(
    [
      [0.152286, 1.052583, -0.204868],
      [0.114503, 0.786281, 0.099216],
      [-0.003882, -0.048116, 1.051998],
    ]
  ),
  "deuteranopia": np.array(
    [
      [0.367322, 0.860646, -0.227968],
      [0.280085, 0.672501, 0.047413],
      [-0.011820, 0.042940, 0.968881],
    ]
  ),
  "tritanopia": np.array(
    [
      [1.255528, -0.076749, -0.178779],
      [-0.078411, 0.930809, 0.147602],
      [0.004733, 0.691367, 0.303900],
    ]
  ),
}


def _draw(path: pathlib.Path, title: str = "A & B", caption: str = "x < y"):
  with figures.style():
    fig, axes = figures.subplots()
    axes.loglog([1, 10, 100], [3, 2, 1], label=r"$\alpha S^{-\beta}$")
    axes.set(xlabel="step", ylabel="value", title="drawn")
    axes.fill_between([1, 10], [1, 1], [2, 2], color="C1")
    axes.legend()
  figures.save(fig, path, title=title, caption=caption)


def test_the_same_figure_is_the_same_bytes_in_another_process(
  tmp_path: pathlib.Path,
):
  _draw(tmp_path / "a.svg")
  code = (
    "import pathlib, sys; sys.path.insert(0, sys.argv[1]); import figures_test;"
    "figures_test._draw(pathlib.Path(sys.argv[2]))"
  )
  here = pathlib.Path(__file__).parent
  subprocess.run(
    [sys.executable, "-c", code, here, tmp_path / "b.svg"],
    check=True,
    env=os.environ | {"PYTHONPATH": str(here.parents[1])},
  )
  assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_the_file_is_svg_with_texts_and_no_address(tmp_path: pathlib.Path):
  _draw(tmp_path / "a.svg")
  text = (tmp_path / "a.svg").read_text()
  root = ET.fromstring(text)
  assert root.findtext(f"{SVG}title") == "A & B"
  assert root.findtext(f"{SVG}desc") == "x < y"
  assert root.attrib["role"] == "img"
  assert "width" not in root.attrib  # the page decides
  assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]


def test_ink_and_ground_are_the_readers(tmp_path: pathlib.Path):
  _draw(tmp_path / "a.svg")
  text = (tmp_path / "a.svg").read_text()
  assert "currentColor" in text
  colours = set(re.findall(r"#[0-9a-f]{6}\b", text))
  assert colours == set(figures.PALETTE[:2])


def test_the_page_gets_unique_ids(tmp_path: pathlib.Path):
  for name in ("01-a", "02-b"):
    _draw(tmp_path / f"{name}.svg", title=name)
  first, second = inline.load(tmp_path, "toy")
  assert (first.title, second.title) == ("01-a", "02-b")
  assert first.caption == "x < y"
  ids = [set(re.findall(r'\bid="([^"]+)"', f.svg)) for f in (first, second)]
  assert ids[0]
  assert not ids[0] & ids[1]
  used = re.findall(r'(?:href="|url\()#([^")]+)', first.svg)
  assert used
  assert set(used) <= ids[0]
  assert "<style" not in first.svg
  assert "http" not in first.svg


def test_no_folder_no_figures(tmp_path: pathlib.Path):
  assert inline.load(tmp_path / "none", "toy") == ()


def _linear(colour: str) -> np.ndarray:
  value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
  return np.where(
    value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4
  )


def _oklab(linear: np.ndarray) -> np.ndarray:
  cones = np.array(
    [
      [0.4122214708, 0.5363325363, 0.0514459929],
      [0.2119034982, 0.6806995451, 0.1073969566],
      [0.0883024619, 0.2817188376, 0.6299787005],
    ]
  )
  lab = np.array(
    [
      [0.2104542553, 0.7936177850, -0.0040720468],
      [1.9779984951, -2.4285922050, 0.4505937099],
      [0.0259040371, 0.7827717662, -0.8086757660],
    ]
  )
  return lab @ np.cbrt(cones @ np.clip(linear, 0, 1))


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("colour", figures.PALETTE)
def test_colours_stand_out_on_both_grounds(colour: str, ground: str):
  weights = np.array([0.2126, 0.7152, 0.0722])
  low, high = sorted(float(weights @ _linear(c)) for c in (colour, ground))
  assert (high + 0.05) / (low + 0.05) >= 3.0


@pytest.mark.parametrize("sight", _SIGHT)
def test_colours_differ_for_every_kind_of_sight(sight: str):
  seen = [_oklab(_SIGHT[sight] @ _linear(c)) for c in figures.PALETTE]
  distances = [
    float(np.linalg.norm(a - b)) for i, a in enumerate(seen) for b in seen[:i]
  ]
  assert min(distances) > 0.08
