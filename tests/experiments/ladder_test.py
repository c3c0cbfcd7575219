"""The ladder without a GPU: its line, its cases and its report."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
from absl.testing import flagsaver
from jax import lax

from experiments.tools import (
  ladder,
  ladder_all_reduce,
  ladder_attention,
  ladder_rungs,
)
from kernels_pallas.hierarchical_all_reduce import api
from kernels_pallas.hierarchical_all_reduce import shapes as reduced
from kernels_pallas.threshold_attention import reference, shapes
from research.telemetry import bench, peer

_SMALL = shapes.Shape("small", 2, 4, 2, 16, 256, page_size=32, dtype="float32")
_KERNELS = {"plain": reference.attend}
_ODD = reduced.Shape("odd", 3, 7)
_GRID = (2, 2)


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
  inputs = ladder_attention.make(shape)
  args = inputs.to(inputs.sifted)
  done = ladder_attention.bind(reference.attend, inputs)(*args)
  _, k_pages, _, table, *_ = (np.asarray(x) for x in args)
  marked = (k_pages[:, 0, 0] > 0)[table].reshape(shape.batch, -1)
  marked[:, -shape.queries :] = True  # each query's own token
  np.testing.assert_array_equal(done.rows[:, 0], marked.sum(1))
  np.testing.assert_array_equal(done.rows[:, 0], done.rows[:, 1])
  assert done.mass.min() > 0.99


def test_checks_name_the_wrong():
  inputs = ladder_attention.make(_SMALL)
  rows = list(ladder_attention.check(inputs, _KERNELS | {"wrong": _wrong}))
  assert [row[:3] for row in rows] == [
    ("plain", "all rows", True),
    ("wrong", "all rows", False),
    ("plain", "some", True),
    ("wrong", "some", False),
  ]
  assert "output ['out']: got error" in rows[1].error


def test_what_is_timed_computes_the_same():
  found = ladder_attention.candidates(ladder_attention.make(_SMALL), _KERNELS)
  ours = found["plain, all rows"]()[0].out
  jax_own = found["jax.nn.dot_product_attention, xla"]()
  assert len(jax_own) == ladder_rungs.CALLS
  np.testing.assert_allclose(ours, jax_own[0], rtol=0, atol=1e-5)


def test_the_report_has_all_rows_and_can_be_read_back():
  console = rich.console.Console(quiet=True)
  many = dataclasses.replace(_SMALL, name="many", queries=2)
  rungs = ladder_attention.rungs([_SMALL, many], _KERNELS)
  report = ladder.climb(rungs, console, rounds=1)
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
  rungs = ladder_attention.rungs([_SMALL], _KERNELS)
  report = ladder.climb(rungs, console, most_seconds=-1.0)
  assert report["out_of_time"] == ["small"]
  assert report["checks"] == report["bench"] == []


def test_sums_are_compared_with_numpys_on_every_device(monkeypatch):
  def wrong(x, axes, across):
    total = api.IMPLEMENTATIONS["xla"](x, axes, across)
    first = lax.axis_index(axes) == 0
    return total.at[2, 6].add(jnp.where(first, 1, 0).astype(x.dtype))

  monkeypatch.setitem(api.IMPLEMENTATIONS, "wrong", wrong)
  kernels = ("reference", "wrong", "nvshmem")
  right, off, absent = ladder_all_reduce.check(_ODD, _GRID, kernels)
  assert right == ("reference", "twice in a row", True, "")
  assert off.holds is False
  assert "got 1 of 84 elements wrong, expected 0" in off.error
  assert absent.holds is None
  assert "call start(mesh, axis)" in absent.error


def test_numbers_differ_by_rank_and_place_and_sum_exactly():
  wide = dataclasses.replace(_ODD, hidden=512)
  x = ladder_all_reduce.make(wide, 32, 0)
  assert len({row.tobytes() for row in x}) == 32
  flat = x.reshape(32, -1).astype(np.float64)
  assert len(np.unique(flat, axis=1).T) == flat.shape[1]
  total = flat.sum(0)
  np.testing.assert_array_equal(total.astype(x.dtype).astype(float), total)


def test_all_reduces_are_timed_beside_psum():
  found = ladder_all_reduce.candidates(
    _ODD, _GRID, ("reference", "mosaic_gpu_ll")
  )
  (ours, *_), (psum, *rest) = found["reference"](), found["lax.psum"]()
  assert len(rest) == ladder_rungs.CALLS - 1
  np.testing.assert_array_equal(ours, psum)
  for name in ("mosaic_gpu_ll", "mosaic_gpu_ll, state kept"):
    with pytest.raises(peer.PeerUnavailableError):
      found[name]()


def test_all_devices_are_one_node_and_two(monkeypatch):
  def names():
    rungs = ladder_all_reduce.rungs([_ODD], ("reference",))
    return [rung.name for rung in rungs]

  assert names() == ["odd on 1x8", "odd on 2x4"]
  for count, expected in ((3, ["odd on 1x3"]), (2, ["odd on 1x2"]), (1, [])):
    monkeypatch.setattr(jax, "devices", lambda count=count: [None] * count)
    assert names() == expected


def test_a_wrong_kernel_fails_and_one_that_cannot_run_does_not(
  tmp_path, monkeypatch, capsys
):
  rungs = {"right": True, "absent": None}

  def made(_):
    return [
      ladder_rungs.Rung(
        "sum",
        name,
        {},
        lambda holds=holds: iter([ladder_rungs.Check("own", "", holds, "why")]),
        dict,
      )
      for name, holds in rungs.items()
    ]

  monkeypatch.setattr(ladder, "find_gpu", lambda: "Some GPU")
  monkeypatch.setattr(ladder_all_reduce, "rungs", made)
  monkeypatch.setattr(ladder_attention, "rungs", lambda _: [])
  with flagsaver.flagsaver(report_dir=str(tmp_path)):
    assert ladder.main([]) == 0
    rungs["wrong"] = False
    assert ladder.main([]) == 1
  assert "absent own, : not here: why" in capsys.readouterr().out
  report = json.loads((tmp_path / "gpu-some-gpu.json").read_text())
  assert [row["holds"] for row in report["checks"]] == [True, None, False]
