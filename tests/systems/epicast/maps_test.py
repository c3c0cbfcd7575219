"""Counties are where they are, and coloured by their values."""

import re

import numpy as np
import pytest

from research.data import artifacts
from research.runs import errors
from research.systems.epicast import maps, simulate
from research.systems.epicast.scenario import scenario as scenario_lib

_SAN_FRANCISCO, _ALAMEDA, _LAKE = 6075, 6001, 41037


@pytest.fixture(scope="module")
def borders():
  try:
    return maps.boundaries([_SAN_FRANCISCO, _ALAMEDA, _LAKE])
  except artifacts.ArtifactError as error:
    pytest.skip(str(error))


def _area(ring) -> float:
  """In square kilometres, positive or negative."""
  middle = np.radians(ring[:, 1].mean())
  x, y = 111.2 * ring[:, 0] * np.cos(middle), 111.2 * ring[:, 1]
  return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def test_counties_have_their_places_and_sizes(borders):
  """Areas with their water, within a tenth."""
  for code, point, size in (
    (_ALAMEDA, (-121.9, 37.65), 2130),
    (_LAKE, (-120.4, 42.8), 21600),
  ):
    rings = borders[code]
    outer = max(rings, key=lambda ring: abs(_area(ring)))
    assert (outer.min(0) < point).all()
    assert (outer.max(0) > point).all()
    assert abs(sum(_area(ring) for ring in rings)) == pytest.approx(
      size, rel=0.1
    )
  assert len(borders[_SAN_FRANCISCO]) == 2  # the Farallon Islands are its


def test_a_code_of_no_county_is_told(borders):
  del borders  # they can be had
  with pytest.raises(errors.UserError, match="map: got county 06999, expected"):
    maps.boundaries([6999])


def test_a_map_has_a_shape_a_county_in_the_colour_of_its_value(
  borders, tmp_path
):
  del borders
  values = {_SAN_FRANCISCO: 0.2, _ALAMEDA: 0.2, _LAKE: 0.6}
  maps.choropleth(tmp_path / "a.svg", values, title="Shares", caption="Of all.")
  text = (tmp_path / "a.svg").read_text()
  assert "Shares" in text
  shapes = text[text.index("PathCollection_1") :].split("</g>")[0]
  colours = re.findall(r"fill: (#\w+)", shapes)
  assert len(colours) == 3
  assert len(set(colours)) == 2  # two counties have the same value


def test_a_scenario_of_census_files_ends_with_a_map(borders, tmp_path, capsys):
  del borders
  census = "2\n" + "".join(
    f"{tract} 100 40 {fips} 100 6 20 10 44 20 20 10 10 5 0 0 0\n"
    for tract, fips in ((7, _ALAMEDA), (9, _SAN_FRANCISCO))
  )
  (tmp_path / "a.dat").write_text(census)
  flows = np.array([(7, 7, 9), (9, 7, 20)], "<u4")
  (tmp_path / "a.bin").write_bytes(flows.tobytes())
  text = (
    'census_file = "a.dat"\nworker_flow_file = "a.bin"\nduration = 3\n'
    "index_cases = {6001 = 5}\n"
  )
  (tmp_path / "a.toml").write_text(text)
  wanted = scenario_lib.read(tmp_path / "a.toml")
  manifest = simulate.run(wanted, tmp_path / "out")
  assert (tmp_path / "out" / "attack.svg").stat().st_size > 1000
  assert "attack rate by county" in manifest["files"]["map"]["about"]
  assert "no map" not in capsys.readouterr().out
