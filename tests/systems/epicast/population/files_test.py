"""Layouts of census, flows and cases, and what is wrong with files."""

import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast.population import files

LINE = "55759 1657 473 6055 201800 106 385 136 899 131 184 190 69 126 42 27 5"
OTHER = "55761 100 50 6097 100 0 20 10 40 30 20 10 5 2 0 0 0"


def _write(tmp_path, name, text):
  path = tmp_path / name
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return path


def test_a_census_is_read(tmp_path):
  path = _write(tmp_path, "a.dat", f"2\n{LINE}\n{OTHER}\n")
  census = files.census(path)
  np.testing.assert_array_equal(census.people, [1657, 100])
  np.testing.assert_array_equal(census.fips, [6055, 6097])
  np.testing.assert_array_equal(census.day_workers, [473, 50])
  np.testing.assert_array_equal(census.ages[0], [106, 385, 136, 899, 131])
  np.testing.assert_array_equal(census.households[1], [20, 10, 5, 2, 0, 0, 0])
  assert census.counties([6097]).tract.tolist() == [55761]


def test_flows_are_the_same_as_words_and_as_text(tmp_path):
  table = np.array([[5, 6, 70000], [6, 6, 1]], "<u4")
  text = "\n".join(" ".join(map(str, row)) for row in table)
  for name, content in (("a.bin", table.tobytes()), ("a.dat", text)):
    flows = files.flows(_write(tmp_path, name, content))
    np.testing.assert_array_equal(flows.home, table[:, 0])
    np.testing.assert_array_equal(flows.work, table[:, 1])
    np.testing.assert_array_equal(flows.workers, table[:, 2])


def test_cases_are_read(tmp_path):
  cases = files.cases(_write(tmp_path, "a.cases", "6001 731\n6013 630\n"))
  assert cases.fips.tolist() == [6001, 6013]
  assert cases.cases.tolist() == [731, 630]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "a.dat, line 1: got ''"),
    (f"3\n{LINE}\n", "line 1: got '3'; expected .* which is 1"),
    (f"1\n{LINE} 7\n", "line 2: got 18 fields, expected 17"),
    (f"1\n{LINE.replace('473', '-473')}\n", "line 2: got '-473', expected a w"),
    (
      f"1\n{LINE.replace('1657', '1658')}\n",
      "line 2: .* not the tract's peopl",
    ),
    (f"2\n{LINE}\n{LINE}\n", "line 3: got a tract for the second time"),
    (f"1\n{OTHER.replace('20 10 5', '90 10 5')}\n", "line 2: .*fewer adults"),
  ],
)
def test_a_malformed_census_names_its_line(tmp_path, text, message):
  with pytest.raises(errors.UserError, match=message):
    files.census(_write(tmp_path, "a.dat", text))


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("a.bin", b"123456789", "a.bin: got 9 bytes"),
    ("a.bin", bytes(24), "line 2: got a flow for the second time"),
    ("a.dat", "1 2\n", "line 1: got 2 fields, expected 3"),
  ],
)
def test_malformed_flows_are_told(tmp_path, name, content, message):
  with pytest.raises(errors.UserError, match=message):
    files.flows(_write(tmp_path, name, content))


def test_a_missing_file_is_told(tmp_path):
  with pytest.raises(errors.UserError, match="cannot read .*none.cases: No su"):
    files.cases(tmp_path / "none.cases")
