import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import pytest

from research import runs
from research.runs import claims, files
from research.telemetry import metrics, trace

CONFIG = "--config=toys/pi/configs/laptop.py"


def _execute(toy: ModuleType, path: pathlib.Path, **fields: Any) -> int:
  experiment = runs.Experiment(
    slug="pi",
    run=toy.run,
    rehearse=toy.rehearse,
    user_errors=(toy.BoardError,),
  )
  dry_run = fields.pop("dry_run", False)
  config = toy.Config(throws=4000, rounds=2, **fields)
  return runs.execute(experiment, config, workdir=path, dry_run=dry_run)


def test_a_run_leaves_what_the_contract_promises(
  toy: ModuleType, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
  assert _execute(toy, tmp_path, seed=5, profile=True) == 0
  names = {path.name for path in tmp_path.iterdir()}
  assert {
    "config.json",
    "run.json",
    "metrics.jsonl",
    "result.json",
    "figures",
    "profile",
    "units",
  } <= names
  assert any(name.startswith("events.out.tfevents") for name in names)
  assert files.read_json(tmp_path / "config.json")["seed"] == 5
  rows = metrics.read(tmp_path / "metrics.jsonl")
  assert [row["step"] for row in rows] == [0, 1]
  result = claims.load(tmp_path / "result.json")
  assert [claim.id for claim in result.claims] == ["pi", "rational"]
  assert files.read_json(tmp_path / "run.json")["ended"] is not None
  assert "fails  Pi is three" in capsys.readouterr().out


def test_the_profile_parses_and_holds_our_spans(
  toy: ModuleType, tmp_path: pathlib.Path
):
  assert _execute(toy, tmp_path, profile=True) == 0
  (xplane,) = tmp_path.rglob("*.xplane.pb")
  data = jax.profiler.ProfileData.from_file(str(xplane))
  names = {
    event.name
    for plane in data.planes
    for line in plane.lines
    for event in line.events
  }
  assert "throw" in names
  assert (tmp_path / "profile" / trace.SPANS_FILE).exists()


def test_a_finished_run_exits_at_once(
  toy: ModuleType, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
  assert _execute(toy, tmp_path) == 0
  before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json")}
  capsys.readouterr()
  assert _execute(toy, tmp_path) == 0
  assert capsys.readouterr().out == (
    f"{tmp_path}: this run is finished; its result is in result.json\n"
  )
  assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json")} == before


def test_a_dry_run_writes_nothing(
  toy: ModuleType, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
  assert _execute(toy, tmp_path / "x", dry_run=True) == 0
  out = capsys.readouterr().out
  assert '"radius": 1.0' in out
  assert "would throw 8000 darts" in out
  assert not (tmp_path / "x").exists()


def test_a_run_without_a_workdir_is_one_line(
  toy: ModuleType, capsys: pytest.CaptureFixture[str]
):
  experiment = runs.Experiment(slug="pi", run=toy.run, rehearse=toy.rehearse)
  assert runs.execute(experiment, toy.Config(), workdir=None) == 2
  assert capsys.readouterr().err == (
    "error: got no --workdir, expected a folder for the run; pass "
    "--workdir=DIR\n"
  )


def test_a_known_error_is_one_line(
  toy: ModuleType, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
  assert _execute(toy, tmp_path, board=toy.Board(radius=-1.0)) == 2
  assert capsys.readouterr().err == (
    "error: got board.radius=-1.0, expected a positive number; pass "
    "--config.board.radius=1.0\n"
  )


def test_the_traceback_is_there_when_asked_for(
  toy: ModuleType,
  tmp_path: pathlib.Path,
  capsys: pytest.CaptureFixture[str],
  monkeypatch: pytest.MonkeyPatch,
):
  monkeypatch.setenv("DECTET_TRACEBACK", "1")
  assert _execute(toy, tmp_path, board=toy.Board(radius=-1.0)) == 2
  assert "Traceback (most recent call last)" in capsys.readouterr().err


@dataclasses.dataclass(kw_only=True)
class _Config(runs.ExperimentConfig):
  pass


def _custom(run: Callable[..., runs.Result]) -> runs.Experiment[_Config]:
  return runs.Experiment(slug="x", run=run, rehearse=lambda _: "")


def test_an_unknown_error_passes_through_and_leaves_no_result(
  tmp_path: pathlib.Path,
):
  def run(config: _Config, context: runs.Context) -> runs.Result:
    raise ZeroDivisionError("a bug")

  with pytest.raises(ZeroDivisionError):
    runs.execute(_custom(run), _Config(), workdir=tmp_path)
  assert not (tmp_path / "result.json").exists()
  assert files.read_json(tmp_path / "run.json")["ended"] is None


def test_a_nan_ends_with_one_line(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
  def run(config: _Config, context: runs.Context) -> runs.Result:
    claim = runs.Claim(
      id="loss",
      statement="The loss falls",
      paper_value=None,
      measured=float("nan"),
      kind="measured",
      scope="beyond",
      holds=False,
    )
    return runs.Result(paper="x", config={}, claims=(claim,))

  assert runs.execute(_custom(run), _Config(), workdir=tmp_path) == 2
  assert capsys.readouterr().err == (
    "error: claim 'loss': got measured=nan, expected a finite number, a text "
    "or None; mend it where the experiment makes its claims\n"
  )
  assert not (tmp_path / "result.json").exists()


def test_a_result_of_another_paper_is_refused(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
  def run(config: _Config, context: runs.Context) -> runs.Result:
    return runs.Result(paper="y", config={}, claims=())

  assert runs.execute(_custom(run), _Config(), workdir=tmp_path) == 2
  assert "got paper='y', expected 'x'" in capsys.readouterr().err


def test_ctrl_c_says_how_to_resume(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
  def run(config: _Config, context: runs.Context) -> runs.Result:
    raise KeyboardInterrupt

  assert runs.execute(_custom(run), _Config(), workdir=tmp_path) == 130
  assert capsys.readouterr().err == (
    f"interrupted; the same command resumes from {tmp_path}\n"
  )


def test_of_several_processes_only_the_first_writes(tmp_path: pathlib.Path):
  here = pathlib.Path(__file__).parent
  job = [sys.executable, "-m", "research.cluster.launch", "-n", "2"]
  main = [sys.executable, "-m", "toys.pi.main", CONFIG]
  done = subprocess.run(
    [*job, "--devices=1", "--", *main, f"--workdir={tmp_path}"],
    cwd=here,
    env=os.environ | {"PYTHONPATH": str(here.parents[1])},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  assert files.read_json(tmp_path / "run.json")["processes"] == 2
  assert len(list(tmp_path.glob("events.*"))) == 1
  assert len(metrics.read(tmp_path / "metrics.jsonl")) == 5
  assert "[0]      fails  Pi is three" in done.stdout
  assert "[1] throws" not in done.stdout
  assert "[1]      fails" not in done.stdout


@pytest.mark.parametrize(
  ("flags", "line"),
  [
    (
      ["--config=toys/pi/configs/none.py"],
      "got --config=toys/pi/configs/none.py, expected a config file that "
      "exists; check the path",
    ),
    (
      [CONFIG, "--config.darts=3"],
      "Field darts not found on dataclass "
      "<class 'toys.pi.experiment.Config'>; see --help for the flags and "
      "fields",
    ),
    (
      [CONFIG, "--config.rounds=many"],
      "flag --config.rounds=many: invalid literal for int() with base 10: "
      "'many'; see --help for the flags and fields",
    ),
    (
      [f"{CONFIG}:odd"],
      "got argument 'odd', expected none; see --help for the flags and fields",
    ),
    (
      [CONFIG, "--dryrun"],
      "Unknown command line flag 'dryrun'. Did you mean: dry_run ?; see --help "
      "for the flags and fields",
    ),
  ],
)
def test_a_bad_flag_is_one_line(
  toy_command: Callable[..., subprocess.Popen[str]],
  tmp_path: pathlib.Path,
  flags: list[str],
  line: str,
):
  process = toy_command(*flags, f"--workdir={tmp_path}")
  out, err = process.communicate(timeout=300)
  assert process.returncode == 2
  assert (out, err) == ("", f"error: {line}\n")
  assert list(tmp_path.iterdir()) == []
