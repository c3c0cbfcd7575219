"""Collectives are timed with the conventions of nccl-tests."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import collectives
from collectives import algorithms
from experiments.tools import timed_collectives

_ROOT = pathlib.Path(__file__).parents[2]


def _bench(collective: str, names: list[str], **how) -> timed_collectives.Bench:
  bench = timed_collectives.Bench(
    collective=collective,
    algorithms=tuple(names),
    shape={"node": 2, "local": 2},
    dtype="float32",
    op="sum",
    warmup=1,
    iters=2,
  )
  return dataclasses.replace(bench, **how)


@pytest.mark.parametrize(
  ("collective", "how", "sizes", "counts"),
  [
    ("all_reduce", {"dtype": "bfloat16", "op": "mean"}, [14], [7]),
    ("all_reduce", {"op": "max", "dtype": "int32"}, [28], [7]),
    # Sizes are those of the larger buffer; what does not divide is left out.
    ("all_gather", {}, [4, 50], [1, 3]),
    ("reduce_scatter", {"op": "max"}, [50], [3]),
  ],
)
def test_trap_01_every_algorithm_is_right_and_no_speed_is_claimed(
  collective, how, sizes, counts
):
  names = ["xla", *algorithms.names(collective)]
  names = names if how.get("op") != "max" else names[:2]
  bench = _bench(collective, names, **how)
  rows = list(bench.rows(sizes))
  assert [row.algorithm for row in rows] == names * len(sizes)
  assert {row.wrong for row in rows} == {0}
  assert [row.count for row in rows[:: len(names)]] == counts
  assert {(row.algbw, row.busbw) for row in rows} == {(None, None)}
  assert "these times are no speeds of a collective" in bench.transport
  assert all(0 < row.min_us <= row.median_us <= row.p95_us for row in rows)


@pytest.mark.parametrize(
  "spoil",
  [
    lambda x: np.roll(x, 1),  # elements in another place
    lambda x: np.roll(x, x.size // 4),  # blocks of ranks swapped
    lambda x: x + (np.arange(x.size) == 5),
  ],
)
@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter"])
def test_trap_04_wrong_elements_are_counted(monkeypatch, collective, spoil):
  right = getattr(collectives, collective)

  def wrong(x, *args, **how):
    y = right(x, *args, **how)
    return y + 0 * y if how["algorithm"] == "xla" else _spoiled(y)

  def _spoiled(y):
    order = spoil(np.arange(y.size, dtype=np.int32)) % y.size
    return y[order]

  monkeypatch.setattr(collectives, collective, wrong)
  rows = list(_bench(collective, ["xla", "ring"]).rows([256]))
  assert rows[0].wrong == 0
  assert rows[1].wrong > 0


def test_a_dtype_too_small_for_the_sums_is_refused():
  bench = _bench("all_reduce", ["xla"], dtype="float8_e5m2")
  bench = dataclasses.replace(bench, shape={"node": 8})
  with pytest.raises(ValueError, match="got 8 ranks of float8_e5m2, expected"):
    list(bench.rows([8]))


@pytest.mark.parametrize(
  ("parse", "text", "message"),
  [
    (
      timed_collectives.parse_bytes,
      "4X",
      "got the size '4X', expected one such",
    ),
    (
      timed_collectives.parse_mesh,
      "4x2",
      "got the mesh '4x2', expected one such",
    ),
  ],
)
def test_bad_flags(parse, text, message):
  with pytest.raises(ValueError, match=message):
    parse(text)


def test_no_sizes():
  with pytest.raises(ValueError, match="got sizes from 8 to 4 bytes, expected"):
    timed_collectives.sizes(8, 4, 2)


def test_a_job_on_emulated_links(tmp_path: pathlib.Path):
  file = tmp_path / "rows.json"
  job = subprocess.run(
    [
      *(sys.executable, "-m", "research.cluster.launch"),
      *("--network=2x1,alpha=0.5ms,bw=1Gb", "--devices=2", "--"),
      *(sys.executable, "-m", "experiments.tools.bench_collectives"),
      *("--mesh=node=2,local=2", "--algorithms=xla,nvrar", "--max_bytes=4K"),
      *("--warmup=1", "--iters=3", f"--json={file}"),
    ],
    env=os.environ | {"PYTHONPATH": str(_ROOT)},
    capture_output=True,
    text=True,
    timeout=100,
  )
  if job.returncode in (69, 75):
    pytest.skip(job.stderr.strip())
  assert job.returncode == 0, job.stdout + job.stderr
  transport = (
    "2 processes, cpu devices, over emulated links 2x1,alpha=0.5ms,bw=1Gb"
  )
  title = f"[0] # all_reduce over {{'node': 2, 'local': 2}}: {transport}"
  assert title in job.stdout.splitlines()
  rows = json.loads(file.read_text())
  assert [(row["size"], row["algorithm"]) for row in rows] == [
    *((1024, "xla"), (1024, "nvrar"), (4096, "xla"), (4096, "nvrar"))
  ]
  for row in rows:
    assert row["wrong"] == 0
    assert row["transport"] == transport
    assert row["algbw"] == pytest.approx(row["size"] / row["median_us"] / 1e3)
    assert row["busbw"] == pytest.approx(1.5 * row["algbw"])
    printed = f" {row['size']} "
    assert any(printed in line for line in job.stdout.splitlines())
