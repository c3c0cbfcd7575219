import io
import itertools
import json
import pathlib
import subprocess
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from research.telemetry import bench, bench_table, peer

_WORKER = """
import json, os, sys
print("loading")  # skipped: not an answer
for i, line in enumerate(sys.stdin):
  request = json.loads(line)
  if i == request.get("die_at"):
    sys.exit("out of luck")
  print(json.dumps({"seconds": request["seconds"]}), flush=True)
"""
_ARGV = [sys.executable, "-c", _WORKER]


def _row(**fields: Any) -> bench.BenchResult:
  defaults: dict[str, Any] = dict(
    name="ours",
    unit="s",
    median=0.02,
    p25=0.015,
    p75=0.03,
    rounds_kept=7,
    rounds_dropped=1,
  )
  return bench.BenchResult(**(defaults | fields))


def test_result_round_trips_through_json():
  row = _row(
    ratio_to={"torch": 1.5},
    limit=bench.Limit("weights over bandwidth", 0.01),
    kind="modelled",
    command="python -m x",
    meta={"threads": 2},
  )
  text = json.dumps(row.to_json(), allow_nan=False)
  assert bench.BenchResult.from_json(json.loads(text)) == row
  assert row.fraction_of_limit == 0.5


def test_rows_without_a_limit_round_trip_too():
  assert bench.BenchResult.from_json(_row().to_json()) == _row()
  assert _row().fraction_of_limit is None


def test_summary_keeps_only_rounds_with_free_cores():
  rng = np.random.default_rng(0)
  free = np.array([2.0, 1.79, 1.8, 1.9, 0.5, 1.95, 2.0, 1.85])
  seconds = {name: rng.uniform(1, 2, free.size) for name in ("a", "b")}
  seconds["a"][[1, 4]] = 1e6  # what a busy neighbour does
  good = [0, 2, 3, 5, 6, 7]
  a, b = bench.summarise(seconds, free, unavailable={})
  assert (a.rounds_kept, a.rounds_dropped, a.verdict) == (6, 2, "judged")
  ordered = sorted(seconds["a"][good])
  assert a.median == pytest.approx((ordered[2] + ordered[3]) / 2)
  assert a.p25 is not None
  assert a.p75 is not None
  assert ordered[1] <= a.p25 <= ordered[2] < ordered[3] <= a.p75 <= ordered[4]
  paired = sorted(seconds["b"][i] / seconds["a"][i] for i in good)
  assert a.ratio_to == {"b": pytest.approx((paired[2] + paired[3]) / 2)}
  assert list(b.ratio_to) == ["a"]


@pytest.mark.parametrize(
  ("kept", "verdict"), [(0, "contended"), (4, "contended"), (5, "judged")]
)
def test_fewer_than_five_rounds_are_not_judged(kept: int, verdict: str):
  free = np.where(np.arange(9) < kept, 2.0, 1.0)
  rows = bench.summarise(
    {"a": np.ones(9), "b": np.full(9, 2.0)}, free, unavailable={}
  )
  assert [row.verdict for row in rows] == [verdict] * 2
  assert rows[0].median == (1.0 if kept else None)
  assert rows[0].ratio_to == ({"b": 2.0} if kept else {})


def test_candidates_take_turns_in_rotated_order():
  calls: list[str] = []
  finished: list[int] = []

  def candidate(name: str):
    return lambda: (calls.append(name), jnp.ones(3))

  rows = bench.interleave(
    {name: candidate(name) for name in "abc"},
    rounds=4,
    unit="s/token",
    limits={"b": bench.Limit("nothing is free", 1e-9)},
    command="python -m x",
    on_round=finished.append,
  )
  assert "".join(calls) == "abc" + "abc" + "bca" + "cab" + "abc"
  assert finished == [0, 1, 2, 3]
  assert [row.name for row in rows] == ["a", "b", "c"]
  for row in rows:
    assert row.rounds_kept + row.rounds_dropped == 4
    assert row.verdict == "contended"
    assert row.meta["first_call_s"] > 0
    assert row.unit == "s/token"
    assert row.command == "python -m x"
  assert rows[1].limit == bench.Limit("nothing is free", 1e-9)


def test_busy_machine_is_contended():
  spin = [sys.executable, "-c", "while True: pass"]
  spinners = [subprocess.Popen(spin) for _ in range(2)]
  try:
    (row,) = bench.interleave({"a": lambda: None}, rounds=2)
  finally:
    for spinner in spinners:
      spinner.kill()
      spinner.wait()
  assert row.verdict == "contended"
  assert row.rounds_dropped > 0
  assert row.meta["free_cores"] < bench.MIN_FREE_CORES


def test_peers_count_with_their_own_seconds(monkeypatch: pytest.MonkeyPatch):
  # Every round counts, so that the numbers are there on a busy machine too.
  monkeypatch.setattr(bench, "MIN_FREE_CORES", 0.0)
  seconds = itertools.chain([9.0], itertools.count(1))  # the first warms up
  with peer.PeerProcess(_ARGV) as worker:
    (row,) = bench.interleave(
      {"peer": lambda: worker.call({"seconds": next(seconds)})},
      rounds=5,
      work=2.0,
    )
  assert (row.p25, row.median, row.p75) == (1.0, 1.5, 2.0)
  assert row.meta["first_call_s"] == 9.0


def test_dead_peer_is_unavailable_and_the_bench_goes_on(
  capsys: pytest.CaptureFixture[str],
):
  with peer.PeerProcess(_ARGV) as worker:
    peer_row, ours = bench.interleave(
      {
        "peer": lambda: worker.call({"seconds": 1.0, "die_at": 2}),
        "ours": lambda: None,
      },
      rounds=3,
    )
  reason = "ended with code 1: out of luck"
  assert peer_row.verdict == "unavailable"
  assert reason in peer_row.meta["reason"]
  assert peer_row.median is None
  assert ours.rounds_kept + ours.rounds_dropped == 3
  assert ours.ratio_to == {}
  json.dumps([peer_row.to_json(), ours.to_json()], allow_nan=False)
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("bench: peer is left out: peer ")
  assert line.endswith(reason)


def test_our_own_errors_end_the_bench():
  def broken() -> None:
    raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    bench.interleave({"ours": broken}, rounds=1)


def test_bad_arguments():
  with pytest.raises(ValueError, match="got 0 rounds of .'a'."):
    bench.interleave({"a": lambda: None}, rounds=0)
  limits = {"b": bench.Limit("x", 1.0)}
  with pytest.raises(ValueError, match="expected .* limits of candidates"):
    bench.interleave({"a": lambda: None}, rounds=1, limits=limits)


def test_table_shows_ratios_limits_and_verdicts():
  rows = [
    _row(ratio_to={"torch": 1.5}, limit=bench.Limit("bandwidth", 0.01)),
    _row(name="torch", median=None, p25=None, p75=None, verdict="unavailable"),
  ]
  out = io.StringIO()
  console = rich.console.Console(file=out, width=120)
  console.print(bench_table.table(rows))
  ours, torch = [
    [cell.strip() for cell in line.split("│")[1:-1]]
    for line in out.getvalue().splitlines()
    if line.startswith("│")
  ]
  assert ours == [
    # Nothing is compared with ours, so there is no column for it.
    *("ours", "20 ms", "15 ms to 30 ms", "1.50x", "50%", "7 of 8"),
    "judged",
  ]
  assert torch[1:3] == ["-", "- to -"]
  assert torch[-1] == "unavailable"


def test_a_page_has_the_same_table_and_what_rows_were_measured_with():
  rows = [
    _row(ratio_to={"torch": 1.5}, meta={"rows": 8, "free_cores": 1.9}),
    _row(name="torch", median=None, p25=None, p75=None, verdict="unavailable"),
  ]
  assert bench_table.markdown("a step", rows).splitlines() == [
    "**a step**",
    "",
    "| candidate | median | p25 to p75 | vs torch | of limit | rounds | "
    "verdict |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    "| ours | 20 ms | 15 ms to 30 ms | 1.50x |  | 7 of 8 | judged |",
    "| torch | - | - to - |  |  | 7 of 8 | unavailable |",
    "",
    "* ours: rows 8",
  ]


def test_rows_survive_a_file(tmp_path: pathlib.Path):
  (row,) = bench.interleave({"a": lambda: None}, rounds=1)
  path = tmp_path / "bench.json"
  path.write_text(json.dumps(row.to_json(), allow_nan=False))
  assert bench.BenchResult.from_json(json.loads(path.read_text())) == row
