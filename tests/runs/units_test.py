import pathlib
import signal
import subprocess
import time
from collections.abc import Callable

import numpy as np
import pytest

from research.runs import errors, files, units, workdir

CONFIG = "--config=toys/pi/configs/laptop.py"


def _units(path: pathlib.Path) -> units.Units:
  return units.Units(workdir.Workdir(path), "stage")


def test_put_then_get_returns_the_same_bits(tmp_path: pathlib.Path):
  value = {
    "a": np.arange(6, dtype=np.int16).reshape(2, 3),
    "b": 0.1 + 0.2,
    "names": ["x", "yz"],
    "none": np.zeros((0, 4), np.float32),
  }
  put = _units(tmp_path).put("one", value)
  got = _units(tmp_path).get("one")
  assert got is not None
  assert set(got) == set(value)
  for key in value:
    assert got[key].dtype == put[key].dtype == np.asarray(value[key]).dtype
    np.testing.assert_array_equal(got[key], value[key], strict=False)
    assert got[key].shape == put[key].shape


def test_a_missing_unit_is_none(tmp_path: pathlib.Path):
  assert _units(tmp_path).get("none") is None


def test_a_torn_file_is_none_wherever_it_tore(tmp_path: pathlib.Path):
  stage = _units(tmp_path)
  stage.put("one", {"a": np.arange(30.0)})
  path = tmp_path / "units" / "stage" / "one.npz"
  whole = path.read_bytes()
  for length in range(0, len(whole), 7):
    path.write_bytes(whole[:length])
    assert stage.get("one") is None, length
  path.write_bytes(whole)
  assert stage.get("one") is not None


def test_no_flipped_bit_passes_as_other_numbers(tmp_path: pathlib.Path):
  stage = _units(tmp_path)
  stage.put("one", {"a": np.arange(30.0)})
  path = tmp_path / "units" / "stage" / "one.npz"
  whole = path.read_bytes()
  for place in range(0, len(whole), 5):
    garbled = bytearray(whole)
    garbled[place] ^= 0x10
    path.write_bytes(bytes(garbled))
    got = stage.get("one")  # zip fields that do not matter may differ
    if got is not None:
      np.testing.assert_array_equal(got["a"], np.arange(30.0))


def test_a_file_with_another_content_is_recomputed(tmp_path: pathlib.Path):
  stage = _units(tmp_path)
  stage.put("one", {"a": np.arange(3)})
  path = tmp_path / "units" / "stage" / "one.npz"
  with np.load(path) as stored:
    forged = {**stored, "a": np.arange(1, 4)}
  files.write_npz(path, forged)
  done = stage.map(["one"], lambda _: {"a": np.arange(3)})
  np.testing.assert_array_equal(done["one"]["a"], np.arange(3))


def test_map_computes_only_what_is_missing(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
  calls: list[str] = []

  def square(name: str) -> dict[str, object]:
    calls.append(name)
    return {"x": int(name) ** 2}

  first = _units(tmp_path).map(["1", "2"], square)
  again = _units(tmp_path).map(["1", "2", "3"], square)
  assert calls == ["1", "2", "3"]
  assert list(again) == ["1", "2", "3"]
  assert {name: int(v["x"]) for name, v in again.items()} == {
    "1": 1,
    "2": 4,
    "3": 9,
  }
  assert first["2"]["x"].dtype == again["2"]["x"].dtype
  assert "stage 3/3" in capsys.readouterr().out


def test_names_are_checked(tmp_path: pathlib.Path):
  stage = _units(tmp_path)
  with pytest.raises(errors.UserError, match=r"unit '\.\./x': expected a name"):
    stage.get("../x")
  with pytest.raises(ValueError, match="got a name twice"):
    stage.map(["a", "a"], lambda _: {})
  with pytest.raises(ValueError, match="got 'f' of type object, expected"):
    stage.put("a", {"f": print})
  with pytest.raises(ValueError, match="under a name other than 'sha256'"):
    stage.put("a", {"sha256": 1})


def _end(process: subprocess.Popen[str]) -> str:
  out, err = process.communicate(timeout=300)
  assert process.returncode == 0, err
  return out


def test_sigkill_and_again_gives_the_same_bits(
  tmp_path: pathlib.Path, toy_command: Callable[..., subprocess.Popen[str]]
):
  broken, whole = tmp_path / "broken", tmp_path / "whole"
  slow = [CONFIG, "--config.pause_s=0.3"]
  stored = broken / "units" / "throws"
  first = toy_command(*slow, f"--workdir={broken}")
  while len(list(stored.glob("*.npz"))) < 2:
    assert first.poll() is None, first.communicate()[1]
    time.sleep(0.01)
  first.send_signal(signal.SIGKILL)
  first.communicate()
  assert not (broken / "result.json").exists()
  kept = {p.name: p.stat().st_mtime_ns for p in stored.glob("[0-9]*.npz")}
  assert 2 <= len(kept) < 5

  out = _end(toy_command(*slow, f"--workdir={broken}"))
  assert out.count("about") < 4  # lines of units that were computed
  _end(toy_command(*slow, f"--workdir={whole}"))
  for name, stamp in kept.items():
    assert (stored / name).stat().st_mtime_ns == stamp
  for name in map(str, range(5)):
    paths = (f / "units" / "throws" / f"{name}.npz" for f in (broken, whole))
    left, right = map(np.load, paths)
    assert left["sha256"] == right["sha256"]
    np.testing.assert_array_equal(left["hits"], right["hits"])
  assert (broken / "result.json").read_bytes() == (
    whole / "result.json"
  ).read_bytes()
  assert len(files.read_json(broken / "run.json")["earlier"]) == 1
  assert (broken / "figures" / "01-estimate.svg").read_bytes() == (
    whole / "figures" / "01-estimate.svg"
  ).read_bytes()
