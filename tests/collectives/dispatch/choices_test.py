"""Choices as data: what is looked up, what the model says, what a file says."""

import json
import subprocess
import sys

import jax
import pytest

from collectives import cost_model, dispatch
from collectives import schedule as sched
from collectives.dispatch import choices, counting, environment
from tests.collectives.dispatch import timed

_RANGES = (
  choices.Range(2, 2, 1024, ((2**14, "nvrar"), (2**20, "xla"))),
  choices.Range(8, 2, 1024, ((2**16, "nvrar"), (2**20, "pccl_ring"))),
)
_NAMES = ("pccl_ring", "pccl_recursive", "ring", "recursive_doubling")
_MACHINE = (1e-3, 8e-9, 1e-4, 1e-9, 1e-10, 5e-4)
_PART = choices.Part(("float32",), _RANGES, _NAMES, _MACHINE)
_CHOICES = dispatch.Choices({"all_reduce": (_PART,)}, {"source": "made up"})


def _choose(nbytes=2**12, dtype="float32", grid=(2, 2), **how):
  return _CHOICES.choose("all_reduce", nbytes, dtype, sched.Grid(*grid), **how)


@pytest.mark.parametrize(
  ("nbytes", "grid", "expected"),
  [
    (1024, (2, 2), "nvrar"),
    (2**14, (2, 2), "nvrar"),
    (2**14 + 1, (2, 2), "xla"),
    (2**20, (8, 2), "pccl_ring"),
    (2**15, (4, 2), "xla"),  # as near to 2 as to 8: the smaller
  ],
)
def test_a_timed_size_is_looked_up(nbytes, grid, expected):
  assert _choose(nbytes, grid=grid) == (expected, "timings")


@pytest.mark.parametrize(
  "how",
  [
    {"nbytes": 1023},
    {"nbytes": 2**20 + 1},
    {"dtype": "bfloat16"},
    {"grid": (16, 2)},
    {"grid": (2, 4)},
    {"grid": (6, 2)},  # folds, and no such grid was timed
  ],
)
def test_unknown_territory_is_the_cost_models_least(how):
  got = _choose(**how)
  nbytes, grid = how.get("nbytes", 2**12), how.get("grid", (2, 2))
  grid = sched.Grid(*grid)
  model = cost_model.Machine(*_MACHINE)
  seconds = {
    name: model.predict(cost_model.terms(name, "all_reduce", grid, nbytes))
    for name in _NAMES
  }
  assert got.reason == "model"
  assert seconds[got.algorithm] == pytest.approx(min(seconds.values()))


def test_one_axis_never_gets_two_levels():
  assert _choose().algorithm == "nvrar"
  assert _choose(two_axes=False) == ("recursive_doubling", "model")


def test_without_timings_and_model_it_is_xla():
  empty = dispatch.Choices({"all_reduce": (choices.Part((), ()),)})
  for one in (empty, dispatch.Choices({})):
    got = one.choose("all_reduce", 8, "float32", sched.Grid(2))
    assert got == ("xla", "nothing known")


def test_every_dtype_has_its_own_part():
  other = choices.Part(("int8",), (_RANGES[1]._replace(nodes=2),))
  both = dispatch.Choices({"all_reduce": (_PART, other)})
  grid = sched.Grid(2, 2)
  assert both.choose("all_reduce", 2**20, "float32", grid)[0] == "xla"
  assert both.choose("all_reduce", 2**20, "int8", grid)[0] == "pccl_ring"


def test_a_file_gives_back_what_was_saved(tmp_path):
  _CHOICES.save(tmp_path / "saved.json")
  assert dispatch.load(tmp_path / "saved.json") == _CHOICES


def _broken(change):
  def apply(data):
    part = data["collectives"]["all_reduce"][0]
    change(data, part)

  return apply


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda data, _: data.update(format=2), "got format 2, expected 1"),
    (lambda data, _: data.pop("collectives"), "KeyError.*tune_collectives"),
    (lambda _, part: part.update(candidates=["rign"]), "did you mean 'ring'"),
    (
      lambda _, part: part["ranges"][0].update(until=[[8, "ring"]]),
      r"got bytes \[1024, 8\] for 2 x 2, expected some, in order",
    ),
    (
      lambda data, _: data["collectives"].update(scatter=[]),
      "got the collective 'scatter', expected one of",
    ),
  ],
)
def test_a_broken_file_is_refused(tmp_path, monkeypatch, change, message):
  path = tmp_path / "choices.json"
  _CHOICES.save(path)
  data = json.loads(path.read_text())
  change(data, data["collectives"]["all_reduce"][0])
  path.write_text(json.dumps(data))
  monkeypatch.setenv(environment.CHOICES, str(path))
  with pytest.raises(ValueError, match=f"{environment.CHOICES}: .*{message}"):
    environment.resolve(
      "all_reduce", 8, "float32", sched.Grid(2), two_axes=False
    )


def test_the_exact_model_is_the_model():
  for name in timed.NAMES:
    for grid in (sched.Grid(4, 2), sched.Grid(3, 2), sched.Grid(5)):
      terms = counting.terms(name, "all_reduce", grid, 1000)
      known = cost_model.terms(name, "all_reduce", grid, 1000)
      assert terms.inter_bytes == pytest.approx(known.inter_bytes)
      exact = counting.seconds(_MACHINE, name, "all_reduce", 1000, grid)
      said = cost_model.Machine(*_MACHINE).predict(known)
      assert float(exact) == pytest.approx(said, rel=1e-12)


def test_trap_12_a_choice_asks_no_process_device_or_clock(monkeypatch):
  def refuse(*_, **__):
    raise AssertionError("a choice asked what may differ between processes")

  for name in ("process_index", "process_count", "devices", "local_devices"):
    monkeypatch.setattr(jax, name, refuse)
  for name in ("time", "perf_counter", "monotonic"):
    monkeypatch.setattr(f"time.{name}", refuse)
  assert _choose().reason == "timings"
  assert _choose(2**30).reason == "model"


_EVERYWHERE = """
import sys
from collectives import dispatch, schedule
known = dispatch.load(sys.argv[1])
for nodes in range(2, 17):
  for power in range(8, 24):
    print(*known.choose(
      "all_reduce", 3 << power, "float32", schedule.Grid(nodes, 2)))
assert "sklearn" not in sys.modules and "collectives.dispatch.svm" not in (
  sys.modules), "learning is no part of choosing"
"""


def test_trap_12_another_process_chooses_the_same(tmp_path):
  path = tmp_path / "choices.json"
  _CHOICES.save(path)
  done = subprocess.run(
    [sys.executable, "-c", _EVERYWHERE, str(path)],
    env={"PYTHONHASHSEED": "7", "JAX_PLATFORMS": "cpu", "PYTHONPATH": "."},
    capture_output=True,
    text=True,
    check=True,
  )
  here = [
    " ".join(_choose(3 << power, grid=(nodes, 2)))
    for nodes in range(2, 17)
    for power in range(8, 24)
  ]
  assert done.stdout.splitlines() == here
  assert len(set(here)) > 3
