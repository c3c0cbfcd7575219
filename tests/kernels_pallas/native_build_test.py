"""A library is built once; a compiler that fails is quoted."""

import shutil

import pytest

from kernels_pallas import native_build


@pytest.fixture
def command(monkeypatch, tmp_path):
  if shutil.which("g++") is None:
    pytest.skip("no g++")
  monkeypatch.setenv("DECTET_CACHE_DIR", str(tmp_path / "cache"))
  return ["g++", "-shared", "-fPIC", str(tmp_path / "source.cc")]


def test_it_is_built_once(command, tmp_path):
  source = tmp_path / "source.cc"
  source.write_text("int x = 1;\n", encoding="utf-8")
  built = native_build.build("x.so", command)
  source.unlink()
  assert native_build.build("x.so", command) == built
  assert [x.name for x in built.parent.iterdir()] == ["x.so"]


def test_a_compiler_that_fails_is_quoted(command, tmp_path):
  (tmp_path / "source.cc").write_text("int x = y;\n", encoding="utf-8")
  with pytest.raises(native_build.NativeError, match="fails: .*error: .y. was"):
    native_build.build("x.so", command)
  assert not list((tmp_path / "cache" / "native").iterdir())
