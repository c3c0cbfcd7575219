"""How the choice is judged, on times that nobody measured."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from collectives.dispatch import evaluation
from experiments import dispatched, emulated_links
from tests.collectives.dispatch import timed
from tests.experiments.multinode_inference import made_up

_NETWORK = "4x2,alpha=1ms,bw=1Gb"
_SIZES = tuple(1 << power for power in range(13, 24, 2))


def _seconds(name, size):
  return timed.cell(4, 2, size).seconds[name]


def _judged(seconds=_seconds, reason="", network=_NETWORK, **fields):
  rows = made_up.timings(seconds, timed.NAMES, sizes=_SIZES, **fields)
  own = dispatched.Timed("all_reduce", network, [] if reason else rows)
  return dispatched.judge_timed([own], reason)


def test_times_that_obey_the_model_are_chosen_well():
  held, auto = _judged(noise=0.0)
  assert held.id == "all-reduce-choice-held-out.1ms-1Gb"
  assert (held.holds, held.measured) == (True, 100.0)
  assert "the best static choice" in held.note
  assert auto.id == "all-reduce-auto.1ms-1Gb"
  assert (auto.holds, auto.measured) == (True, 0.0)
  for claim in (held, auto):
    assert claim.time_dependent
    assert claim.kind == "measured"
    assert "emulated links" in claim.statement


def test_trap_08_the_choice_is_judged_by_calls_that_it_has_not_seen():
  """Every other block says the opposite: what was learned is wrong."""
  rows = [
    dataclasses.replace(
      row,
      times_us=tuple(
        time * (5 if i // 2 % 2 and row.algorithm == "nvrar" else 1)
        for i, time in enumerate(row.times_us)
      ),
    )
    for row in made_up.timings(_seconds, timed.NAMES, sizes=_SIZES, noise=0.0)
  ]
  small = {row.algorithm: row for row in rows if row.size == _SIZES[0]}
  assert min(small, key=lambda name: small[name].times_us[0]) == "nvrar"
  own = dispatched.Timed("all_reduce", _NETWORK, rows)
  _, auto = dispatched.judge_timed([own], "")
  assert auto.holds is False
  assert isinstance(auto.measured, float)
  assert auto.measured > 100
  assert "8K nvrar" in auto.note


def test_what_no_model_and_no_neighbour_tells_is_not_confirmed():
  rng = np.random.default_rng(0)
  wild = {(n, s): rng.uniform(0.001, 0.1) for n in timed.NAMES for s in _SIZES}
  held, auto = _judged(lambda *cell: wild[cell], noise=0.0)
  assert held.holds is False
  assert auto.holds  # that was timed, so nothing is left to guess


def test_grids_on_the_same_links_are_one_machine():
  rows = {
    network: made_up.timings(
      lambda name, size: timed.LINKS.alpha_inter,
      ("ring", "xla"),
      sizes=_SIZES[:1],
    )
    for network in (_NETWORK, "8x1,alpha=1ms,bw=1Gb", "4x2,alpha=5ms,bw=10Gb")
  }
  claims = dispatched.judge_timed(
    [dispatched.Timed("all_reduce", name, own) for name, own in rows.items()],
    "",
  )
  assert [claim.id.split(".")[1] for claim in claims] == [
    *("1ms-1Gb", "1ms-1Gb", "5ms-10Gb", "5ms-10Gb")
  ]
  assert claims[0].measured is not None
  assert "4x2 8K" in claims[1].note
  assert "8x1 8K" in claims[1].note
  assert claims[2].note == "not judged: this config measured one size or none"


def test_disturbed_calls_and_missing_links_are_not_judged():
  for claim in _judged(free_cores=[1.0] * 5):
    assert claim.holds is None
    assert claim.measured is not None
    assert "a neighbour left fewer than five blocks" in claim.note
  for claim in _judged(reason="skipped, no links"):
    assert (claim.holds, claim.measured) == (None, None)
    assert claim.note == "not judged: skipped, no links"


def test_peers_are_no_candidates():
  rows = made_up.timings(_seconds, timed.NAMES, sizes=_SIZES, noise=0.0)
  peer = [
    dataclasses.replace(row, algorithm="openmpi:ring", min_us=0.0)
    for row in rows
    if row.algorithm == "xla"
  ]
  own = dispatched.Timed("all_reduce", _NETWORK, [*rows, *peer])
  held, _ = dispatched.judge_timed([own], "")
  assert held.measured == 100.0
  assert isinstance(rows[0], emulated_links.Pooled)


def _score(top1, regret):
  return evaluation.Score(
    cells=20,
    tied=2,
    top1=top1,
    strict=top1,
    mean_regret=regret,
    worst_regret=0.5,
  )


@pytest.mark.parametrize(
  ("top1", "regret", "holds"),
  [(0.9, 0.03, True), (0.89, 0.0, False), (1.0, 0.031, False)],
)
def test_trap_08_both_the_share_and_the_regret_count(top1, regret, holds):
  scores = {"table": _score(top1, regret), "static": _score(0.4, 0.3)}
  machine = dispatched.Machine(name="vista", nodes=(2, 4), sizes=(8192, 16384))
  claim = dispatched.judge_simulated(machine, "all_gather", scores)
  assert claim.id == "modelled-all-gather-choice.vista"
  assert (claim.holds, claim.kind) == (holds, "modelled")
  assert not claim.time_dependent
  assert "the best static choice 40 % at 30.00 % regret" in claim.note
  assert "2 to 4 nodes of 1, 8K to 16K" in claim.note


def test_a_small_machine_is_simulated_and_judged():
  machine = dispatched.Machine(
    name="frontier", nodes=(2, 4, 8), sizes=(1 << 16, 1 << 20, 1 << 24)
  )
  scores = dispatched.simulate(machine, "all_gather", 0)
  assert scores["oracle"].top1 == 1
  assert scores["table"].cells == 9
  assert ("svm" in scores) == (importlib.util.find_spec("sklearn") is not None)
  assert scores["table"].mean_regret < scores["static"].mean_regret
