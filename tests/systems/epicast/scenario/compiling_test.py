"""From scenario files and data files to people and first infected."""

import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast.scenario import compiling, identity
from research.systems.epicast.scenario import scenario as scenario_lib
from tests.systems.epicast.scenario import towns

LINE = "{} 100 40 {} 100 6 20 10 44 20 20 10 10 5 0 0 0"
TRACTS = ((7, 6001), (9, 6013), (11, 35001))
FLOWS = ((7, 7, 9), (9, 7, 20), (9, 11, 4), (9, 50, 3))
CASES = "6001 5\n6013 2\n99001 8\n"


@pytest.fixture
def region(tmp_path):
  """Writes data files and a scenario; returns how to read that."""

  def read(more="", *, flows=FLOWS, cases=CASES, tracts=TRACTS, census=None):
    lines = "\n".join(LINE.format(*tract) for tract in tracts)
    census = census or f"{len(tracts)}\n{lines}\n"
    (tmp_path / "a.dat").write_text(census)
    table = np.array(flows, "<u4").reshape(-1, 3)
    (tmp_path / "a.bin").write_bytes(table.tobytes())
    (tmp_path / "a.cases").write_text(cases)
    text = (
      'census_file = "a.dat"\nworker_flow_file = "a.bin"\n'
      'index_case_file = "a.cases"\n'
    )
    (tmp_path / "a.toml").write_text(text + more)
    return scenario_lib.read(tmp_path / "a.toml")

  return read


def test_files_make_a_model_that_accounts_for_everybody(region):
  model = compiling.compile_scenario(region())
  accounts = model.accounts()
  assert accounts["people"] == len(model.population) == 300
  assert accounts["index_cases"] == 7
  assert accounts["index_cases_outside"] == 8
  assert accounts["workers_to_outside"] == 3
  assert any(
    notice.startswith("3 of 36 workers work in tracts outside the region")
    for notice in model.notices()
  )
  assert "8 index cases are in counties outside" in model.notices()[-1]
  stage = np.asarray(model.start(0).stage)
  assert (stage == 1).sum() == 7
  assert (np.asarray(model.start(1).stage) != stage).any()


@pytest.mark.parametrize(
  ("geography", "fips"),
  [("[6]", [6001, 6013]), ("[6013, 35]", [6013, 35001]), ("[6001]", [6001])],
)
def test_geography_keeps_states_and_counties(region, geography, fips):
  found = compiling.populate(region(f"geography = {geography}"))
  assert found.fips.tolist() == fips
  assert len(found) == 100 * len(fips)


def test_policies_name_states_too(region):
  text = "policies.0.work = [{scale = 0.5, fips = [6]}]"
  model = compiling.compile_scenario(region(text))
  work = np.asarray(model.world.policies.scale)[0, :, 4]
  np.testing.assert_array_equal(work, [0.5, 0.5, 1])


@pytest.mark.parametrize(
  ("more", "message"),
  [
    ("geography = [6099]", "^geography: got county 6099, which has no tract"),
    ("geography = [8]", "^geography: got county 8, which has no tract"),
    (
      "policies.0.work = [{scale = 0, fips = [6002]}]",
      "^policies.0: got county 6002, .*such as 6001",
    ),
  ],
)
def test_wrong_keys_of_a_region_are_told(region, more, message):
  with pytest.raises(errors.UserError, match=message):
    compiling.compile_scenario(region(more))


@pytest.mark.parametrize(
  ("files", "message"),
  [
    (
      {"census": "1\n" + LINE.format(7, "x")},
      "^census_file, worker_flow_file: a.dat, line 2: got 'x', expected a who",
    ),
    ({"flows": [(7, 7, 1)] * 2}, "a.bin, line 2: got a flow for the second"),
    (
      {"flows": [(70, 7, 3), (7, 70, 4)]},
      "^worker_flow_file: got 7 workers, none from and to tracts of census_fi",
    ),
    ({"cases": "6001 x\n"}, "^index_case_file: a.cases, line 1: got 'x'"),
    (
      {"cases": "6001 101\n"},
      "^index_case_file: got 101 index cases in county 6001; expected at most "
      "its 100 people",
    ),
  ],
)
def test_trap_11_wrong_files_are_told_with_their_key(region, files, message):
  with pytest.raises(errors.UserError, match=message):
    compiling.compile_scenario(region(**files)).start(0)


def test_index_cases_written_in_the_file_must_be_of_the_region():
  read = towns.scenario({"index_cases": {"1": 3, "7": 1}})
  with pytest.raises(errors.UserError, match="^index_cases: got county 7, whi"):
    compiling.compile_scenario(read)


def test_trap_09_every_data_file_counts(region):
  digests = set()
  for change in (
    {},
    {"flows": FLOWS[:2]},
    {"cases": "6001 5\n"},
    {"tracts": TRACTS[:2]},
  ):
    read = region(**change)
    model = compiling.compile_scenario(read)
    cases = model.accounts()["index_cases"]
    description = identity.digest(identity.describe(read))
    digests.add((model.population.digest(), cases, description))
  assert len(digests) == 4
  assert len({digest[:2] for digest in digests}) == 4
  assert len({digest[2] for digest in digests}) == 4
