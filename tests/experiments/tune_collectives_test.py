"""From timings in files, and from simulations, to a file of choices."""

import importlib.util
import json

import pytest
from absl.testing import flagsaver

from collectives import dispatch
from collectives import schedule as sched
from experiments.tools import tune_collectives
from tests.collectives.dispatch import timed

needs_sklearn = pytest.mark.skipif(
  importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn"
)
_LINKS = "8 processes, cpu devices, over emulated links"


def _write(path, cells, dtype="float32", links=_LINKS):
  rows = [
    {
      "collective": "all_reduce",
      "algorithm": name,
      "size": cell.nbytes,
      "dtype": dtype,
      "wrong": 0,
      "transport": links,
      "times_us": [seconds * 1e6 * factor for factor in (1, 1.01, 0.99, 1)],
    }
    for cell in cells
    for name, seconds in cell.seconds.items()
  ]
  path.write_text(json.dumps(rows))


def _tune(tmp_path, **flags):
  with flagsaver.flagsaver(choices=str(tmp_path / "choices.json"), **flags):
    return tune_collectives.main(["tune_collectives"])


@needs_sklearn
@pytest.mark.parametrize("learner", ["table", "svm"])
def test_measured_rows_become_choices(tmp_path, capsys, learner):
  powers = range(12, 22, 2)
  entries = []
  for nodes in (2, 4):
    for dtype in ("float32", "int8"):
      path = tmp_path / f"{nodes}.{dtype}.json"
      _write(path, timed.square((nodes,), powers), dtype)
      entries.append(f"{nodes}x2:{path}")
  assert _tune(tmp_path, timings=entries, learner=learner) == 0
  said = capsys.readouterr().out
  assert "all_reduce of float32, blocks of" in said
  assert "oracle        100.0%" in said
  known = dispatch.load(tmp_path / "choices.json")
  for cell in timed.square((2, 4), powers):
    for dtype in ("float32", "int8"):
      got = known.choose("all_reduce", cell.nbytes, dtype, cell.grid)
      assert got.reason == "timings"
      assert cell.regret(got.algorithm) < 0.06
  assert known.provenance["source"] == "measured"
  assert known.provenance["links"] == [_LINKS]
  assert set(known.provenance["files"]) == {
    f"{nodes}.{dtype}.json" for nodes in (2, 4) for dtype in ("float32", "int8")
  }
  assert str(tmp_path) not in (tmp_path / "choices.json").read_text()
  beyond = known.choose("all_reduce", 2**30, "float32", sched.Grid(4, 2))
  assert beyond.reason == "model"


@needs_sklearn
def test_a_simulated_machine_is_said_to_be_modelled(tmp_path):
  flags = {"node_counts": ["2", "4"], "smallest": "64K", "largest": "512K"}
  assert _tune(tmp_path, simulate="vista", **flags) == 0
  known = dispatch.load(tmp_path / "choices.json")
  assert known.provenance["source"] == "modelled"
  assert set(known.parts) == {"all_reduce", "all_gather", "reduce_scatter"}
  grid = sched.Grid(4)
  got = known.choose("all_gather", 2**17, "bfloat16", grid, two_axes=False)
  assert got.reason == "timings"


@pytest.mark.parametrize(
  ("entry", "message"),
  [
    ("rows.json", "got 'rows.json', expected such as 4x2:out/rows.json"),
    ("2x2:nowhere.json", "got 'nowhere.json', which cannot be read"),
    ("2x2:{one}", "got times of devices of one process, expected those of a"),
  ],
)
def test_timings_that_cannot_be_used_are_one_line(
  tmp_path, capsys, entry, message
):
  _write(
    tmp_path / "one.json",
    timed.square((2,), (12, 13, 14)),
    links="devices of one process, no transport between them",
  )
  timings = [entry.format(one=tmp_path / "one.json")]
  assert _tune(tmp_path, timings=timings) == 2
  said = capsys.readouterr().err
  assert message in said
  assert said.count("\n") == 1


def test_one_source_is_needed(tmp_path, capsys):
  assert _tune(tmp_path) == 2
  assert "got neither or both of --timings and --simulate" in (
    capsys.readouterr().err
  )
