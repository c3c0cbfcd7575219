"""Runs of a scenario: resumed, extended, failed, interrupted, read back."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from research.runs import errors
from research.systems.epicast import (
  engine,
  events,
  outputs,
  replicate,
  sharding,
  simulate,
)
from research.systems.epicast.scenario import scenario
from tests.systems.epicast.scenario import towns

TABLES = ("daily", "ages", "attack", "rt")
TREES = ("events", "tree", "cohorts", "routes")
FILES, LOGS = (
  [f"{name}.{end}" for name in names for end in ("parquet", "csv")]
  for names in (TABLES, TREES)
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that nothing stopped."""
  folder = tmp_path_factory.mktemp("whole")
  manifest = simulate.run(towns.scenario({"replicates": 2}), folder)
  return folder, manifest


def _same(folder, other, names=FILES):
  for name in names:
    assert (folder / name).read_bytes() == (other / name).read_bytes(), name
  runs = [
    json.loads((place / "manifest.json").read_text())["runs"]
    for place in (folder, other)
  ]
  assert runs[0] == runs[1]


def test_tables_are_read_back(whole):
  folder, manifest = whole
  daily = parquet.read_table(folder / "daily.parquet")
  assert daily.num_rows == 2 * towns.DAYS * 2
  text = csv.read_csv(folder / "daily.csv")
  for name in set(daily.column_names) - {"date"}:
    assert text[name].to_pylist() == daily[name].to_pylist()
  assert set(daily.column_names) <= set(outputs.COLUMNS)
  assert manifest["files"]["daily"]["rows"] == daily.num_rows
  for number in (0, 1):
    wanted = towns.run(towns.scenario(), replicate=number)
    rows = daily.filter(pa.array(daily["replicate"].to_numpy() == number))
    for name in set(rows.column_names) - {"date"}:
      np.testing.assert_array_equal(rows[name].to_numpy(), wanted[name])
  ages = parquet.read_table(folder / "ages.parquet").to_pylist()
  assert sum(row["residents"] for row in ages) == 2 * 400
  stages = [daily[n].to_numpy() for n in text.column_names if "stage" in n]
  assert np.sum(stages) == 400 * towns.DAYS * 2
  susceptible = daily["stage_s"].to_numpy().reshape(2, towns.DAYS, 2)[:, -1]
  infected = sum(row["infected"] for row in ages)
  assert infected == 2 * 400 - susceptible.sum()


def test_a_manifest_says_what_ran(whole):
  folder, manifest = whole
  stored = json.loads((folder / "manifest.json").read_text())
  assert stored == json.loads(json.dumps(manifest))
  assert len(stored["digest"]) == 64
  assert stored["versions"]["jax"]
  assert stored["scenario"]["rng_seed"] == 0
  assert stored["accounts"]["index_cases"] == 10
  states = [found["state"] for found in stored["runs"].values()]
  assert states == ["done", "done"]
  assert "infected" in simulate.sentence(manifest["report"])


def test_a_finished_run_is_not_run_again(whole, monkeypatch):
  folder, manifest = whole
  monkeypatch.setattr(engine, "run", None)
  again = simulate.run(towns.scenario({"replicates": 2}), folder)
  assert again["runs"] == manifest["runs"]
  assert again["files"] == manifest["files"]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
  """The same with events, which nothing stopped."""
  folder = tmp_path_factory.mktemp("logged")
  read = towns.scenario({"replicates": 2, "events": True})
  return folder, simulate.run(read, folder)


def test_events_change_no_state(whole, logged):
  assert logged[1]["runs"] == whole[1]["runs"]
  for name in FILES:
    assert (whole[0] / name).read_bytes() == (logged[0] / name).read_bytes()


def test_a_log_and_its_tree_are_read_back(logged):
  folder, manifest = logged
  log = parquet.read_table(folder / "events.parquet")
  assert log.column_names == list(events.COLUMNS)
  assert csv.read_csv(folder / "events.csv").num_rows == log.num_rows
  daily = parquet.read_table(folder / "daily.parquet")
  rows = log.filter(pa.array(log["day"].to_numpy() >= 0)).to_pylist()
  count = lambda event: sum(row["event"] == event for row in rows)
  for name, event in (("infections", "infected"), ("symptomatic",) * 2):
    assert count(event) == daily[f"new_{name}"].to_numpy().sum()
  told = parquet.read_table(folder / "tree.parquet").to_pylist()
  assert sum(row["cases"] for row in told) == count("infected") > 0
  assert sum(row["infector"] is None for row in told) == 2 * 10
  shares = manifest["report"]["context_shares"]
  assert sum(share["mean"] for share in shares.values()) == pytest.approx(1)
  assert (
    json.loads((folder / "report.json").read_text()) == (manifest["report"])
  )


class _Killed(BaseException):
  pass


@pytest.mark.parametrize("day", [0, 8, 9, 12])
def test_a_killed_run_resumes_to_the_same_bits(
  logged, tmp_path, monkeypatch, day
):
  """Killed in the middle of that day of the first replicate."""
  real, calls = engine.run, []

  def run(world, state, *, days):
    calls.append(int(state.day))
    if calls[-1] == day and calls.count(day) == 1:
      raise _Killed
    return real(world, state, days=days)

  monkeypatch.setattr(engine, "run", run)
  read = towns.scenario({"replicates": 2, "events": True})
  with pytest.raises(_Killed):
    simulate.run(read, tmp_path)
  calls.clear()
  calls.append(day)
  simulate.run(read, tmp_path)
  assert calls[1] == day // 8 * 8
  _same(tmp_path, logged[0], FILES + LOGS)


def test_no_event_is_there_twice_if_checkpoints_are_gone(
  logged, tmp_path, monkeypatch
):
  """Parts of the log begin on other days the second time."""
  real = engine.run

  def run(world, state, *, days):
    if int(state.day) == 12:
      raise _Killed
    return real(world, state, days=days)

  monkeypatch.setattr(engine, "run", run)
  changes = {"replicates": 2, "events": True}
  with pytest.raises(_Killed):
    simulate.run(towns.scenario(changes | {"checkpoint_interval": 9}), tmp_path)
  shutil.rmtree(tmp_path / "replicates" / "0000" / "checkpoints")
  monkeypatch.setattr(engine, "run", real)
  simulate.run(towns.scenario(changes | {"checkpoint_interval": 0}), tmp_path)
  _same(tmp_path, logged[0], FILES + LOGS)


@pytest.mark.parametrize(
  ("first", "then", "kept"),
  [(2, 1, False), pytest.param(2, 4, True, marks=pytest.mark.slow)],
)
def test_trap_02_a_scenario_goes_on_with_other_devices(
  logged, tmp_path, monkeypatch, first, then, kept
):
  """Killed on some devices after a checkpoint, resumed on others."""
  real, spread = sharding.run, []

  def run(world, state, *, days, mesh):
    spread.append(len(state.stage.sharding.device_set))
    if int(state.day) == 9 and mesh.size == first:
      raise _Killed
    return real(world, state, days=days, mesh=mesh)

  monkeypatch.setattr(sharding, "run", run)
  read = towns.scenario({"replicates": 2, "events": kept})
  with pytest.raises(_Killed):
    simulate.run(read, tmp_path, devices=first)
  assert set(spread) == {first}
  simulate.run(read, tmp_path, devices=then)
  _same(tmp_path, logged[0], FILES + LOGS * kept)


def test_ctrl_c_loses_nothing(whole, tmp_path, monkeypatch):
  """Without checkpoints it ends after the days at hand and keeps them."""
  real, calls = engine.run, []

  def run(world, state, *, days):
    calls.append(int(state.day))
    if len(calls) == 3:
      os.kill(os.getpid(), signal.SIGINT)
    return real(world, state, days=days)

  monkeypatch.setattr(engine, "run", run)
  read = towns.scenario({"replicates": 2, "checkpoint_interval": 0})
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt):
    simulate.run(read, tmp_path)
  assert signal.getsignal(signal.SIGINT) is before
  assert calls[-1] == 9
  place = tmp_path / "replicates" / "0000"
  assert len(outputs.read(place / "daily.parquet")["day"]) == 2 * 10
  simulate.run(read, tmp_path)
  assert calls[10] == 10
  _same(tmp_path, whole[0])


def test_a_failed_replicate_leaves_the_others_alone(
  whole, tmp_path, monkeypatch
):
  real, fails = replicate.run, [0]

  def run(model, folder, stamp, *rest):
    if stamp.replicate in fails:
      raise RuntimeError("disk on fire")
    return real(model, folder, stamp, *rest)

  monkeypatch.setattr(replicate, "run", run)
  read = towns.scenario({"replicates": 2})
  manifest = simulate.run(read, tmp_path)
  assert manifest["runs"]["0"] == {"state": "failed"}
  assert manifest["runs"]["1"] == whole[1]["runs"]["1"]
  assert manifest["report"]["replicates"] == 1
  error = tmp_path / "replicates" / "0000" / "error.txt"
  assert "disk on fire" in error.read_text()
  fails.clear()
  simulate.run(read, tmp_path)
  assert not error.exists()
  _same(tmp_path, whole[0])


def test_a_run_goes_on_with_more_days_and_replicates(whole, tmp_path):
  simulate.run(towns.scenario({"duration": 13}), tmp_path)
  simulate.run(towns.scenario({"replicates": 2}), tmp_path)
  _same(tmp_path, whole[0])
  with pytest.raises(
    errors.UserError, match="duration: got 9; expected at least the 24 of"
  ):
    simulate.run(towns.scenario({"duration": 9, "replicates": 2}), tmp_path)


def test_minus_one_only_begins(tmp_path):
  begun = simulate.run(towns.scenario({"checkpoint_interval": -1}), tmp_path)
  assert begun["runs"] == {"0": {"state": "begun", "days": 0}}
  checkpoints = tmp_path / "replicates" / "0000" / "checkpoints"
  assert [path.name for path in checkpoints.iterdir()] == ["day-00000"]


def test_a_folder_of_another_scenario_is_refused(whole):
  for changes, message in (
    ({"rng_seed": 4}, "with rng_seed = 0; expected rng_seed = 4"),
    ({"output_level": 1}, "output_level: got 1; expected that of the run in"),
  ):
    read = towns.scenario({"replicates": 2} | changes)
    with pytest.raises(errors.UserError, match=message):
      simulate.run(read, whole[0])


def test_a_scenario_file_runs_from_the_command_line(
  tmp_path, capsys, monkeypatch
):
  path = tmp_path / "a.toml"
  path.write_text("population.people = 400\nindex_cases = {1 = 900}")
  assert simulate.execute(path, tmp_path / "out") == 2
  assert capsys.readouterr().err == (
    "error: index_cases: got 900 index cases in county 1; expected at most its "
    "400 people: lower the number\n"
  )
  town = towns.scenario({"duration": 3})  # compiled above
  monkeypatch.setattr(scenario, "read", lambda path: town)
  monkeypatch.setattr(jax, "local_device_count", lambda: 1)
  assert simulate.execute(path, tmp_path / "town") == 0
  said = capsys.readouterr().out
  assert "replicate 0, day 3/3: " in said
  assert "agent-days/s" in said
  assert "1 runs of 3 days, median" in said
