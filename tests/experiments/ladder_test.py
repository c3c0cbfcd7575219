"""The ladder without a GPU: its line, its cases and its report."""

import dataclasses
import json

import numpy as np
import rich.console

from experiments.tools import ladder, ladder_cases
from kernels_pallas.threshold_attention import reference, shapes
from research.telemetry import bench

_SMALL = shapes.Shape("small", 2, 4, 2, 16, 256, page_size=32, dtype="float32")
_KERNELS = {"plain": reference.attend}


def _wrong(*args, **options):
  done = reference.attend(*args, **options)
  return done._replace(out=done.out * 1.001)


def test_without_a_gpu_it_says_so(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert ladder.main([]) == 0
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith("no GPU: got cpu, expected gpu")
  assert line.endswith("nothing was measured")
  assert not list(tmp_path.iterdir())


def test_the_threshold_keeps_the_tokens_that_stand_out():
  shape = dataclasses.replace(_SMALL, queries=3)
  inputs = ladder_cases.make(shape)
  args = inputs.to(inputs.sifted)
  done = ladder_cases.bind(reference.attend, inputs)(*args)
  _, k_pages, _, table, *_ = (np.asarray(x) for x in args)
  marked = (k_pages[:, 0, 0] > 0)[table].reshape(shape.batch, -1)
  marked[:, -shape.queries :] = True  # each query's own token
  np.testing.assert_array_equal(done.rows[:, 0], marked.sum(1))
  np.testing.assert_array_equal(done.rows[:, 0], done.rows[:, 1])
  assert done.mass.min() > 0.99


def test_checks_name_the_wrong():
  inputs = ladder_cases.make(_SMALL)
  rows = list(ladder_cases.check(inputs, _KERNELS | {"wrong": _wrong}))
  assert [(row["kernel"], row["case"], row["holds"]) for row in rows] == [
    ("plain", "all rows", True),
    ("wrong", "all rows", False),
    ("plain", "some", True),
    ("wrong", "some", False),
  ]
  assert "output ['out']: got error" in rows[1]["error"]


def test_what_is_timed_computes_the_same():
  found = ladder_cases.candidates(ladder_cases.make(_SMALL), _KERNELS)
  ours = found["plain, all rows"]()[0].out
  jax_own = found["jax.nn.dot_product_attention, xla"]()
  assert len(jax_own) == ladder_cases.CALLS
  np.testing.assert_allclose(ours, jax_own[0], rtol=0, atol=1e-5)


def test_the_report_has_all_rows_and_can_be_read_back():
  console = rich.console.Console(quiet=True)
  many = dataclasses.replace(_SMALL, name="many", queries=2)
  report = ladder.climb([_SMALL, many], _KERNELS, console, rounds=1)
  report = json.loads(json.dumps(report))
  assert [row["shape"] for row in report["checks"]] == ["small"] * 2 + [
    "many"
  ] * 2
  rows = {}
  for row in report["bench"]:
    assert row.pop("shape") == "small"
    rows[row["name"]] = bench.BenchResult.from_json(row)
  assert list(rows) == [
    "plain, all rows",
    "plain, 25% of rows",
    "jax.nn.dot_product_attention, cudnn",
    "jax.nn.dot_product_attention, xla",
    "read K and V",
    "read K and 25% of V",
  ]
  cudnn = rows.pop("jax.nn.dot_product_attention, cudnn")
  assert cudnn.verdict == "unavailable"
  assert cudnn.meta["reason"]
  assert all(row.median for row in rows.values() if row.rounds_kept)


def test_shapes_that_come_too_late_are_listed():
  console = rich.console.Console(quiet=True)
  report = ladder.climb([_SMALL], _KERNELS, console, most_seconds=-1.0)
  assert report["out_of_time"] == ["small"]
  assert report["checks"] == report["bench"] == []
