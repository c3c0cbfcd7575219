"""Scenario files: what they say, and how they are told what is wrong."""

import datetime
import pathlib

import pytest

from research.runs import errors
from research.systems.epicast import policies, scenario
from research.systems.epicast.scenario import identity
from research.systems.epicast.scenario import scenario as scenario_lib

TOWN = """
population.people = 1000
index_cases = {1 = 5}
"""
EXAMPLES = pathlib.Path(scenario.__file__).parent / "examples"


def test_what_is_left_out_has_its_default():
  found = scenario_lib.parse(TOWN)
  assert found == scenario_lib.Scenario(
    population=scenario_lib.People(people=1000), index_cases={"1": 5}
  )
  assert found.contacts.p_trans == 0.078
  assert found.fear is None


def test_a_preset_lies_under_what_the_file_says():
  found = scenario_lib.parse(
    TOWN + 'preset = "exaepi"\n[contacts]\nwork_factor = 0.9'
  )
  assert found.contacts.p_trans == 0.2
  assert found.contacts.work_factor == 0.9
  assert found.contacts.classes == (0.15, 0.145, 0.125, 0.105)


def test_policies_are_by_day_or_date_and_context():
  found = scenario_lib.parse(
    TOWN
    + """
    start_date = 2020-03-25
    [policies.20]
    work = [{scale = 0.5, fips = [1]}, {scale = 0.25}]
    [policies.2020-04-14]
    shelter = [{compliance = 0.5}]
    """
  )
  assert found.policies == (
    policies.Change(day=20, context="work", scale=0.5, fips=(1,)),
    policies.Change(day=20, context="work", scale=0.25),
    policies.Shelter(day=datetime.date(2020, 4, 14), compliance=0.5),
  )


def test_paths_are_relative_to_the_file(tmp_path):
  path = tmp_path / "deep" / "a.toml"
  path.parent.mkdir()
  path.write_text(
    'census_file = "../a.dat"\nworker_flow_file = "a.bin"\n'
    'index_case_file = "b/a.cases"'
  )
  found = scenario_lib.read(path)
  assert found.census_file == path.parent / "../a.dat"
  assert found.index_case_file == path.parent / "b" / "a.cases"
  with pytest.raises(errors.UserError, match="census_file: cannot read .*a.da"):
    identity.describe(found)


@pytest.mark.parametrize(
  "path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.stem
)
def test_examples_are_read(path):
  assert scenario_lib.read(path).duration >= 120


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("contacts.p_tran = 1", r"contacts.p_tran: got an unknown key; did you me"
     r"an contacts.p_trans\?"),
    ("p_trans = 0.1", r"p_trans: .*did you mean contacts.p_trans\?"),
    ("pFA = 1.8", r"pFA: .*did you mean contacts.household_factor\?"),
    ("zzz = 1", "zzz: got an unknown key; expected one of duration, rng_seed"),
    ("duration = 0", "duration: got 0; expected a number from 1 to 100000"),
    ("duration = 1.5", "duration: got 1.5; expected a whole number"),
    ("duration = true", "duration: got True; expected a whole number"),
    ("start_date = 'Mar25'", "start_date: got 'Mar25'; expected a date such"),
    ("contacts = 3", "contacts: got 3; expected a table"),
    ("contacts.p_trans = -0.1", "contacts.p_trans: got -0.1; expected a numb"
     "er that is not negative"),
    ("contacts.p_trans = nan", "contacts.p_trans: got nan"),
    ("contacts.p_trans = 2", "contacts.household_child: p_trans times its f"),
    ("contacts.classes = [1, 2]", r"classes: got \[1, 2\]; expected a list of"),
    ("disease.p_asymptomatic = 2", "^disease.p_asymptomatic: got 2; expected "
     "from 0 to 1$"),
    ("disease.latent_cdf = [0.1, 0.5]", r"^disease.latent_cdf: got \(0.1, 0.5"),
    ("disease.latent_cdf = [0.1, 'a']", r"latent_cdf\[1\]: got 'a'; expected a"
     " number"),
    ("disease.withdrawal = [[0, 0, 0]]", "disease.withdrawal: got 1 rows"),
    ("disease.withdrawal = [[0, 0, 2]]", r"withdrawal\[0\]\[2\]: got 2; expec"
     "ted a number from 0 to 1"),
    ("daytime.enrolled = [1, 1, 1, 1]", "daytime.enrolled: got"),
    ("fear.rho_f = 2", "^fear.rho_f: got 2; expected from 0 to 1$"),
    ("fear.weights.work = -1", "fear.weights.work: got -1"),
    ("fear.weights.wrok = 1", "^fear.weights.wrok: got context 'wrok'.*'work'"),
    ("fear.behaviours = [{name = 'a', compliance = 3}]",
     r"^fear.behaviours\[0\].compliance: got 3; expected from 0 to 1$"),
    ("fear.behaviours = [{}]", r"fear.behaviours\[0\].name: got nothing"),
    ("fear.broadcasters = [{strength = 1, lag = 0}]",
     r"^fear.broadcasters\[0\].lag: got a lag of 0"),
    ("fear.broadcasters = [{strength = 1, until = 0.5, threshold = 0.1}]",
     r"^fear.broadcasters\[0\].until: got on from 0.1 and off below 0.5"),
    ("fear.broadcasters = [{strength = 1, level = 'national'}]",
     r"level: got 'national'; expected one of .*did you mean 'nation'\?"),
    ("preset = 'exaepy'", r"preset: got 'exaepy'; .*did you mean 'exaepi'\?"),
    ("policies.soon.work = []", "policies.soon: got no day; expected one such"),
    ("policies.3.wrok = []", r"policies.3.wrok: got context .*'work'\?"),
    ("policies.3.work = 1", "policies.3.work: got 1; expected a list"),
    ("policies.3.work = [{scale = -1}]", r"policies.3.work\[0\].scale: got -1"),
    ("policies.3.work = [{scle = 1}]", r"policies.3.work\[0\].scle: .*scale\?"),
    ("policies.3.shelter = [{compliance = 2}]",
     r"^policies.3.shelter\[0\].compliance: got 2; expected from 0 to 1$"),
    ("policies.2020-04-14.work = [{scale = 1}]",
     "^policies.2020-04-14: got a date without start_date"),
    ("start_date = 2020-05-01\npolicies.2020-04-14.work = [{scale = 1}]",
     "^policies.2020-04-14: got a date before start_date = 2020-05-01"),
    ("output_level = 2", r"output_level: got 2; expected 1 \("),
    ("geography = [6]", "geography: got codes without census_file"),
    ("census_file = 'a'", "population.people: got both of it and census_file"),
    ("worker_flow_file = 'a'", "worker_flow_file: got one of it"),
    ("index_case_file = 'a'", "index_cases: got both or neither"),
    ("= 3", "got no TOML: .*line 4"),
  ],
)  # fmt: skip
def test_trap_09_wrong_keys_are_told_in_one_line(text, message):
  with pytest.raises(errors.UserError, match=message) as error:
    scenario_lib.parse(TOWN + text)
  assert "\n" not in str(error.value)


def test_an_error_names_the_file(tmp_path):
  path = tmp_path / "a.toml"
  path.write_text("duration = 1")
  with pytest.raises(errors.UserError, match="^a.toml: population.people: got"):
    scenario_lib.read(path)
  with pytest.raises(errors.UserError, match="cannot read .*none.toml"):
    scenario_lib.read(tmp_path / "none.toml")


def test_the_same_scenario_has_the_same_digest():
  same = TOWN + "duration = 7\nreplicates = 3\noutput_level = 1\n"
  same += "contacts.work_factor = 1.4\ndisease.withdrawal_scalar = 1"
  describe = lambda text: identity.describe(scenario_lib.parse(text))
  digests = {
    identity.digest(describe(text))
    for text in (TOWN, same, TOWN.replace("5", "6"), TOWN + "rng_seed = 1")
  }
  assert len(digests) == 3
  other = describe(TOWN + "contacts.p_trans = 0.07\nrng_seed = 1")
  with pytest.raises(
    errors.UserError,
    match="here: got a run of another scenario, with rng_seed = 0; expected r",
  ):
    identity.require_same(describe(TOWN), other, "here")
