import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from research.runs import config, errors, files, provenance, workdir


def test_an_unwritable_folder_is_one_clear_line():
  with pytest.raises(errors.UserError) as caught:
    workdir.Workdir("/proc/none/x")
  assert str(caught.value) == (
    "workdir /proc/none/x: got 'No such file or directory', expected a folder "
    "that can be written; choose another folder"
  )


def test_a_file_in_the_way(tmp_path: pathlib.Path):
  (tmp_path / "x").write_text("")
  with pytest.raises(errors.UserError, match="got 'File exists'"):
    workdir.Workdir(tmp_path / "x")


def test_the_same_config_may_come_back(tmp_path: pathlib.Path):
  folder = workdir.Workdir(tmp_path)
  folder.claim(config.ExperimentConfig(seed=3))
  workdir.Workdir(tmp_path).claim(config.ExperimentConfig(seed=3))
  assert files.read_json(tmp_path / "config.json")["seed"] == 3


def test_another_config_is_refused_by_the_field(tmp_path: pathlib.Path):
  workdir.Workdir(tmp_path).claim(config.ExperimentConfig(seed=3))
  with pytest.raises(errors.UserError) as caught:
    workdir.Workdir(tmp_path).claim(config.ExperimentConfig(seed=4))
  assert str(caught.value) == (
    f"workdir {tmp_path}: got a run with seed=3, expected seed=4; choose "
    "another --workdir, or pass --config.seed=3"
  )


def test_run_json_keeps_earlier_sessions(tmp_path: pathlib.Path):
  folder = workdir.Workdir(tmp_path)
  first = folder.begin(7)
  second = folder.begin(7)
  folder.end(second, 1.25)
  run = files.read_json(tmp_path / "run.json")
  assert [e["started"] for e in run["earlier"]] == [first["started"]]
  assert run["seconds"] == 1.25
  assert run["seed"] == 7
  assert run["ended"] >= run["started"]
  assert run["machine"]["cores"] >= 1
  assert run["machine"]["jax"] == "0.10.2"
  assert run["devices"] == ["8 × cpu"]


def test_only_the_writer_writes(tmp_path: pathlib.Path):
  folder = workdir.Workdir(tmp_path / "x", writes=False)
  with folder.hold():
    folder.claim(config.ExperimentConfig())
    folder.end(folder.begin(0), 1.0)
  assert not (tmp_path / "x").exists()


def _holder(path: str, ready, stay) -> None:
  with workdir.Workdir(path).hold():
    ready.set()
    stay.wait()


def test_two_runs_do_not_share_a_folder(tmp_path: pathlib.Path):
  context = multiprocessing.get_context("spawn")
  ready, stay = context.Event(), context.Event()
  process = context.Process(target=_holder, args=(str(tmp_path), ready, stay))
  process.start()
  assert ready.wait(120)
  with (
    pytest.raises(errors.UserError) as caught,
    workdir.Workdir(tmp_path).hold(),
  ):
    pass
  assert f"in use by pid {process.pid} on " in str(caught.value)
  assert "choose another folder" in str(caught.value)
  assert process.pid is not None
  os.kill(process.pid, signal.SIGKILL)
  process.join()
  with workdir.Workdir(tmp_path).hold():  # a dead holder keeps nobody out
    text = (tmp_path / ".lock").read_text()
  assert text.startswith(f"pid {os.getpid()} on ")


def test_the_lock_ends_with_the_block(tmp_path: pathlib.Path):
  for _ in range(2):
    with workdir.Workdir(tmp_path).hold():
      pass


def test_a_write_that_fails_leaves_the_old_file(tmp_path: pathlib.Path):
  path = tmp_path / "a.json"
  files.write_json(path, {"x": 1})
  with pytest.raises(ValueError, match="Out of range float"):
    files.write_json(path, {"x": np.nan})
  with pytest.raises(TypeError):
    files.write_bytes(path, "no bytes")  # pyrefly: ignore[bad-argument-type]
  assert files.read_json(path) == {"x": 1}
  assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def _git(folder: pathlib.Path, *arguments: str) -> str:
  who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
  return subprocess.run(
    ["git", *who, *arguments],
    cwd=folder,
    check=True,
    capture_output=True,
    text=True,
  ).stdout.strip()


def test_commit_of_a_clone_and_of_none(tmp_path: pathlib.Path):
  assert provenance.commit_of(tmp_path) == ("unknown", None)
  _git(tmp_path, "init", "-q")
  (tmp_path / "a.py").write_text("1")
  _git(tmp_path, "add", "a.py")
  _git(tmp_path, "commit", "-q", "-m", "one")
  head = _git(tmp_path, "rev-parse", "HEAD")
  assert provenance.commit_of(tmp_path) == (head, False)
  (tmp_path / "a.py").write_text("2")
  assert provenance.commit_of(tmp_path) == (head, True)
  # A package that is installed inside somebody's clone is not that clone.
  (tmp_path / "venv").mkdir()
  (tmp_path / "venv" / "b.py").write_text("1")
  assert provenance.commit_of(tmp_path / "venv") == ("unknown", None)


def test_argv_names_no_home(tmp_path: pathlib.Path):
  code = (
    "from research.runs import provenance; print(provenance.collect(0)['argv'])"
  )
  home = tmp_path / "me"
  done = subprocess.run(
    [sys.executable, "-c", code, f"--workdir={home}/out"],
    env=os.environ | {"HOME": str(home)},
    capture_output=True,
    text=True,
    check=True,
  )
  assert "--workdir=~/out" in done.stdout
  assert str(home) not in done.stdout
