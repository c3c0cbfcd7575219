"""The experiment as a user runs it."""

import json

import pytest

from experiments.epicast import cells, scenario, study
from experiments.epicast import config as config_lib
from experiments.epicast.configs import full, laptop, smoke
from research.runs import claims as ledger
from research.runs import errors
from tests.experiments import binary

SLUG = "epicast"
_TOWN = """
duration = 60
rng_seed = 1
replicates = 2
index_cases = {1 = 5}

[population]
people = 500
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished smoke run."""
  return binary.finished(SLUG, tmp_path_factory)


def test_leaves_what_the_contract_names(finished):
  for name in ("config.json", "run.json", "result.json", "metrics.jsonl"):
    assert (finished / name).stat().st_size > 0
  names = {path.name[3:] for path in (finished / "figures").glob("*.svg")}
  assert names == {
    "waves.svg",
    "shares.svg",
    "attack.svg",
    "phases.svg",
    "stages.svg",
  }
  agents = smoke.get_config().agents
  runs = [one.stem for one in (finished / "units" / "agents").glob("*.npz")]
  assert len(runs) == len(list(agents.cells())) * agents.seeds


def test_trap_12_speeds_say_what_was_run(finished):
  result = ledger.load(finished / "result.json")
  speed = smoke.get_config().speed
  assert {row.name for row in result.bench} == {
    "agents with fear",
    "agents without fear",
  }
  for row in result.bench:
    assert row.kind == "measured"
    assert "CPU-s" in row.unit
    assert (row.meta["agents"], row.meta["days"]) == (speed.people, speed.days)
    assert 0 < row.meta["infected before"] < row.meta["infected after"] < 1


def test_claims_are_golden(finished, request):
  result = binary.golden_claims(SLUG, finished, request)
  assert len(result.claims) == len({claim.id for claim in result.claims})


def test_every_config_fits_together():
  for module in (smoke, laptop, full):
    config = module.get_config()
    config.check()
    assert f"{config.agents.people:,} people" in study.rehearse(config)
  assert full.get_config().agents.seeds >= 10


def test_full_runs_what_laptop_runs():
  """The laptop's grid is part of the full one."""
  grids = [set(one.get_config().agents.cells()) for one in (laptop, full)]
  assert grids[0] < grids[1]


def test_a_cell_is_what_the_simulator_gets():
  cell = cells.Cell("both", 0.9, 40.0, 0.001, 0.1, 30.0, 14)
  fear = cell.fear()
  assert (fear.phi_ff, fear.phi_sf, fear.gamma_f) == (0.001, 0.1, 1 / 40)
  [source], [careful] = fear.broadcasters, fear.behaviours
  assert (source.strength, source.lag) == (30.0, 14)
  assert careful.distance["all"] == pytest.approx(0.1)
  assert cell._replace(strength=0.0).fear().broadcasters == ()


@pytest.mark.parametrize(
  ("setting", "grid", "words"),
  [
    ("local", {"phi_sf": (0.1,), "strength": (3.0,)}, "and broadcasters not"),
    ("local", {}, "expected contact to spread fear"),
    ("broadcaster", {"phi_ff": (0.1,)}, "expected contact not to spread"),
    ("both", {"strength": (3.0,)}, "agents.both: got both.cut-0.5.fades-20"),
    ("broadcaster", {"strength": (3.0, 3.0)}, "got a combination twice"),
  ],
)
def test_grids_that_do_not_fit_are_refused(setting, grid, words):
  config = config_lib.Config()
  setattr(config.agents, setting, config_lib.Grid(**grid))
  with pytest.raises(errors.UserError) as error:
    config.check()
  assert words in str(error.value)


@pytest.mark.parametrize(
  ("field", "value", "words"),
  [
    ("seeds", 0, "expected 1 seed or more"),
    ("cuts", (0.9,), "a weak and a strong cut"),
    ("cuts", (0.9, 0.5), "expected the weakest first"),
  ],
)
def test_settings_that_do_not_fit_are_refused(field, value, words):
  config = config_lib.Config()
  setattr(config.agents, field, value)
  with pytest.raises(errors.UserError) as error:
    config.check()
  assert words in str(error.value)


def test_a_scenario_runs_alone(tmp_path, capsys):
  path = tmp_path / "town.toml"
  path.write_text(_TOWN)
  assert scenario.execute(str(path), None, dry_run=True) == 0
  out = capsys.readouterr().out
  assert out == "2 runs of 60 days, 500 people, 5 index cases\n"
  assert [one.name for one in tmp_path.iterdir()] == ["town.toml"]
  assert scenario.execute(str(path), None, dry_run=False) == 2
  assert "got no --workdir" in capsys.readouterr().err


def test_the_command_takes_a_study_or_a_scenario(tmp_path):
  both = binary.run(SLUG, tmp_path / "out", "--scenario=town.toml")
  assert both.returncode == 2
  assert both.stderr.startswith("error: got both or neither of --config and")
  assert not (tmp_path / "out").exists()


def test_results_are_plain_data(finished):
  result = json.loads((finished / "result.json").read_text())
  assert result["config"]["agents"]["cuts"] == [0.5, 0.9]
