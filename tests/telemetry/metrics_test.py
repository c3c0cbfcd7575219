import json
import math
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from research.telemetry import metrics


def _values(path: pathlib.Path) -> list[tuple[int, dict[str, float | None]]]:
  return [(row["step"], row["values"]) for row in metrics.read(path)]


def _events(folder: pathlib.Path) -> list[Any]:
  """Reads TensorBoard's record format by its public layout, checksums too."""
  events = []
  for path in sorted(folder.glob("events.out.tfevents.*")):
    data = path.read_bytes()
    while data:
      size = int.from_bytes(data[:8], "little")
      body = data[12 : 12 + size]
      assert int.from_bytes(data[8:12], "little") == masked_crc32c(data[:8])
      event = event_pb2.Event()  # pyrefly: ignore[missing-attribute]
      event.ParseFromString(body)
      events.append(event)
      data = data[16 + size :]
  return events


def test_lines_hold_floats_and_arrays(tmp_path: pathlib.Path):
  with metrics.MetricWriter(tmp_path / "new") as writer:
    writer.scalars(0, {"train/loss_nat": 2.5, "train/rate": jnp.float32(0.25)})
    writer.scalars(1, {"eval/nll_nat": jnp.int32(3)})
  assert _values(tmp_path / "new" / metrics.FILE_NAME) == [
    (0, {"train/loss_nat": 2.5, "train/rate": 0.25}),
    (1, {"eval/nll_nat": 3.0}),
  ]


def test_events_hold_the_same_scalars(tmp_path: pathlib.Path):
  with metrics.MetricWriter(tmp_path) as writer:
    writer.scalars(4, {"train/loss_nat": 2.5})
  scalars = [
    (event.step, value.tag, value.simple_value)
    for event in _events(tmp_path)
    for value in event.summary.value
  ]
  assert scalars == [(4, "train/loss_nat", 2.5)]


@given(
  st.lists(
    st.dictionaries(
      st.from_regex(r"[a-z]{1,5}/[a-z_]{1,5}", fullmatch=True),
      st.floats(),
      max_size=3,
    ),
    max_size=3,
  )
)
def test_any_float_becomes_valid_json(
  tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, float]]
):
  folder = tmp_path_factory.mktemp("floats")
  with metrics.MetricWriter(folder) as writer:
    for step, values in enumerate(rows):
      writer.scalars(step, values)

  def reject(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")

  lines = (folder / metrics.FILE_NAME).read_text().splitlines()
  assert len(lines) == len(rows)
  for line, values in zip(lines, rows, strict=True):
    row = json.loads(line, parse_constant=reject)
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    assert row["nonfinite"] == bad
    assert {k: v for k, v in row["values"].items() if v is not None} == {
      k: v for k, v in values.items() if math.isfinite(v)
    }


def test_torn_last_line_is_dropped(tmp_path: pathlib.Path):
  with metrics.MetricWriter(tmp_path) as writer:
    writer.scalars(0, {"train/loss_nat": 1.0})
    writer.scalars(1, {"train/loss_nat": 0.5})
  path = tmp_path / metrics.FILE_NAME
  os.truncate(path, path.stat().st_size - 7)
  assert _values(path) == [(0, {"train/loss_nat": 1.0})]
  with metrics.MetricWriter(tmp_path) as writer:
    writer.scalars(1, {"train/loss_nat": 0.25})
  assert _values(path) == [
    (0, {"train/loss_nat": 1.0}),
    (1, {"train/loss_nat": 0.25}),
  ]


def test_resume_cuts_the_steps_that_come_again(tmp_path: pathlib.Path):
  with metrics.MetricWriter(tmp_path) as writer:
    for step in range(5):
      writer.scalars(step, {"train/loss_nat": float(step)})
  with metrics.MetricWriter(tmp_path, resume_step=3) as writer:
    writer.scalars(3, {"train/loss_nat": 30.0})
  steps = [
    (step, values["train/loss_nat"])
    for step, values in _values(tmp_path / metrics.FILE_NAME)
  ]
  assert steps == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]
  # TensorBoard drops older events from the step of a session start on.
  starts = [e.step for e in _events(tmp_path) if e.HasField("session_log")]
  assert starts == [3]


def test_lines_survive_sigkill(tmp_path: pathlib.Path):
  script = f"""
import os, pathlib, signal
from research.telemetry import metrics
writer = metrics.MetricWriter(pathlib.Path({str(tmp_path)!r}))
for step in range(3):
  writer.scalars(step, {{"train/loss_nat": step / 2}})
os.kill(os.getpid(), signal.SIGKILL)
"""
  done = subprocess.run(
    [sys.executable, "-c", script],
    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
  )
  assert done.returncode == -signal.SIGKILL
  rows = _values(tmp_path / metrics.FILE_NAME)
  assert [values["train/loss_nat"] for _, values in rows] == [0.0, 0.5, 1.0]


def test_broken_line_in_the_middle_is_an_error(tmp_path: pathlib.Path):
  path = tmp_path / metrics.FILE_NAME
  path.write_text('{"step": 0}\n{"ste\n{"step": 2}\n')
  with pytest.raises(
    ValueError, match="got a broken line 2 in .*expected JSON"
  ):
    metrics.MetricWriter(tmp_path)


@pytest.mark.parametrize("name", ["loss", "Train/loss", "train/", "a b/c"])
def test_bad_names(tmp_path: pathlib.Path, name: str):
  with metrics.MetricWriter(tmp_path) as writer:
    with pytest.raises(ValueError, match="expected group/name in lower case"):
      writer.scalars(0, {name: 1.0})


def test_vectors_are_refused(tmp_path: pathlib.Path):
  with metrics.MetricWriter(tmp_path) as writer:
    with pytest.raises(
      ValueError, match=r"got shape \(2,\) for the metric a/b"
    ):
      writer.scalars(0, {"a/b": jnp.ones(2)})
