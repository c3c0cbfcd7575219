import collections
import gzip
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from research.telemetry import trace, xplane


@jax.jit
def _step(x: jax.Array) -> jax.Array:
  def loss(x: jax.Array) -> jax.Array:
    with jax.named_scope("layer_0"):
      with jax.named_scope("attention"):
        x = jnp.sin(x @ x)

    def body(_: int, x: jax.Array) -> jax.Array:
      with jax.named_scope("mlp"):
        return jnp.tanh(x @ x)

    return jnp.sum(jax.lax.fori_loop(0, 3, body, x))

  return jax.grad(loss)(x)


def _slices(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Pairs begin and end events as a viewer does: a stack per thread."""
  with gzip.open(folder / trace.SPANS_FILE, "rt") as file:
    events = json.load(file)["traceEvents"]
  threads = {
    event["tid"]: event["args"]["name"]
    for event in events
    if event["name"] == "thread_name"
  }
  stacks = collections.defaultdict(list)
  slices = []
  for event in events:
    if event["ph"] == "B":
      stacks[event["tid"]].append(event)
    elif event["ph"] == "E":
      begin = stacks[event["tid"]].pop()
      assert begin["name"] == event["name"]
      slices.append(
        {
          "name": event["name"],
          "thread": threads[event["tid"]],
          "start": begin["ts"],
          "end": event["ts"],
          "depth": len(stacks[event["tid"]]),
          "args": begin["args"],
        }
      )
  assert not any(stacks.values())
  return slices


def _event_names(folder: pathlib.Path) -> set[str]:
  (path,) = folder.rglob("*.xplane.pb")
  data = jax.profiler.ProfileData.from_file(str(path))
  return {
    event.name
    for plane in data.planes
    for line in plane.lines
    for event in line.events
  }


def test_named_scopes_are_found_with_their_time(tmp_path: pathlib.Path):
  x = jnp.ones((64, 64))
  _step(x).block_until_ready()
  with trace.profile(tmp_path):
    _step(x).block_until_ready()
  seconds = xplane.scope_seconds(tmp_path)
  assert {"layer_0/attention", "mlp"} <= seconds.keys()
  assert seconds["layer_0/attention"] > 0
  assert seconds["mlp"] > 0
  assert not any("jvp" in scope or "while" in scope for scope in seconds)


def test_operations_say_when_and_what_ran(tmp_path: pathlib.Path):
  x = jnp.ones((64, 64))
  _step(x).block_until_ready()
  with trace.profile(tmp_path):
    _step(x).block_until_ready()
    with trace.span("second"):
      _step(x).block_until_ready()
  ran = xplane.operations(tmp_path, within="second")
  assert len({one.device for one in ran}) == 1
  assert all(one.start <= one.end for one in ran)
  assert not any("while" in one.opcodes for one in ran)
  products = [one for one in ran if "dot" in one.opcodes]
  # Forward one and three, backward two and three times two at the least.
  assert len(products) >= 8
  assert {"layer_0/attention", "mlp"} <= {one.scope for one in products}
  mlp = sum(one.end - one.start for one in ran if one.scope == "mlp")
  assert 0 < mlp < xplane.scope_seconds(tmp_path)["mlp"]
  with pytest.raises(ValueError, match="got 0 spans 'third' .* expected one"):
    xplane.operations(tmp_path, within="third")


def test_scopes_of_a_program_from_the_compilation_cache(tmp_path: pathlib.Path):
  # Its events name it by an id that no stored program has.
  script = f"""
import pathlib
import jax
jax.config.update("jax_compilation_cache_dir", {str(tmp_path / "cache")!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import jax.numpy as jnp
from research.telemetry import trace
@jax.jit
def step(x):
  with jax.named_scope("attention"):
    return jnp.sin(x @ x)
x = jnp.ones((64, 64))
step(x).block_until_ready()
jax.clear_caches()
jnp.cos(x)  # takes the id that comes next
step(x).block_until_ready()
with trace.profile(pathlib.Path({str(tmp_path / "profile")!r})):
  step(x).block_until_ready()
"""
  subprocess.run(
    [sys.executable, "-c", script],
    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    check=True,
  )
  assert xplane.scope_seconds(tmp_path / "profile")["attention"] > 0


def test_programs_that_did_not_run_have_no_scopes(tmp_path: pathlib.Path):
  def other(x: jax.Array) -> jax.Array:
    with jax.named_scope("elsewhere"):
      return jnp.cos(x)

  compiled = jax.jit(other).lower(jnp.ones(3)).compile()
  with trace.profile(tmp_path):
    _step(jnp.ones((64, 64))).block_until_ready()
  assert "elsewhere" not in xplane.scope_seconds(tmp_path)
  with trace.profile(tmp_path / "again"):
    compiled(jnp.ones(3)).block_until_ready()
  assert "elsewhere" in xplane.scope_seconds(tmp_path / "again")


def test_spans_are_in_both_traces(tmp_path: pathlib.Path):
  with trace.profile(tmp_path):
    with trace.span("outer", batch=8):
      with trace.span("inner"):
        pass
      with trace.span("inner"):
        pass
  slices = _slices(tmp_path)
  assert [s["name"] for s in slices] == ["inner", "inner", "outer"]
  first, second, outer = slices
  assert outer["args"] == {"batch": 8}
  assert [s["depth"] for s in slices] == [1, 1, 0]
  assert outer["start"] <= first["start"] <= first["end"] <= second["start"]
  assert second["end"] <= outer["end"]
  assert {"outer", "inner"} <= _event_names(tmp_path)


def test_lives_are_rows_of_phases(tmp_path: pathlib.Path):
  start = time.perf_counter()
  with trace.profile(tmp_path):
    with trace.span("around"):
      trace.life(
        "request", 7, ("queue", start, start + 1), ("run", start, start + 3)
      )
  trace.life("request", 8, ("lost", 0.0, 1.0))  # nothing records it
  (around,) = _slices(tmp_path)
  with gzip.open(tmp_path / trace.SPANS_FILE, "rt") as file:
    events = json.load(file)["traceEvents"]
  marks = [event for event in events if event.get("cat") == "request"]
  assert [(e["ph"], e["name"], e["id"]) for e in marks] == [
    ("b", "queue", 7),
    ("e", "queue", 7),
    ("b", "run", 7),
    ("e", "run", 7),
  ]
  assert marks[1]["ts"] - marks[0]["ts"] == pytest.approx(1e6)
  assert marks[0]["ts"] <= around["start"] + 1


def test_threads_have_rows_of_their_own(tmp_path: pathlib.Path):
  both_inside = threading.Barrier(2)

  def work() -> None:
    with trace.span("work"):
      both_inside.wait()

  with trace.profile(tmp_path):
    thread = threading.Thread(target=work, name="helper")
    thread.start()
    with trace.span("main"):
      both_inside.wait()
    thread.join()
  rows = {s["name"]: (s["thread"], s["depth"]) for s in _slices(tmp_path)}
  assert rows == {"work": ("helper", 0), "main": ("MainThread", 0)}


def test_files_are_written_when_the_body_raises(tmp_path: pathlib.Path):
  with pytest.raises(KeyError, match="planted"):
    with trace.profile(tmp_path), trace.span("doomed"):
      raise KeyError("planted")
  assert [s["name"] for s in _slices(tmp_path)] == ["doomed"]
  assert "doomed" in _event_names(tmp_path)
  with trace.profile(tmp_path / "next"):  # and the recording is over
    pass


def test_disabled_profile_writes_nothing(tmp_path: pathlib.Path):
  with trace.profile(tmp_path / "off", enabled=False), trace.span("free"):
    pass
  assert not (tmp_path / "off").exists()


def test_profiles_do_not_nest(tmp_path: pathlib.Path):
  with trace.profile(tmp_path / "outer"):
    with pytest.raises(RuntimeError, match="got a profile inside another one"):
      with trace.profile(tmp_path / "inner"):
        pass


def test_folder_without_a_trace(tmp_path: pathlib.Path):
  with pytest.raises(FileNotFoundError, match=r"got no \*.xplane.pb under"):
    xplane.scope_seconds(tmp_path)
