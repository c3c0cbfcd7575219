"""Claims about times follow from the times, and from nothing else."""

import dataclasses

import numpy as np
import pytest

from collectives import cost_model
from collectives import schedule as sched
from experiments.multinode_inference import (
  collectives_analysis,
  collectives_claims,
  rounding_claims,
)
from experiments.multinode_inference import config as config_lib
from research import runs
from tests.experiments.multinode_inference import made_up

K = made_up.K
_OURS = ("xla", "ring", "double_tree", "recursive_doubling", "nvrar")
_PEER = ("openmpi:ring", "openmpi:default")
_MILLISECONDS = {
  "xla": 25,
  "ring": 30,
  "double_tree": 20,
  "recursive_doubling": 12,
  "nvrar": 10,
  "openmpi:ring": 9,
  "openmpi:default": 30,
}


def _seconds(name: str, size: int) -> float:
  del size
  return _MILLISECONDS[name] / 1e3


def _judged(rows, **how) -> dict[str, runs.Claim]:
  config = made_up.config()
  found = made_up.findings(rows, config, **how)
  return {c.id: c for c in collectives_claims.judge(config, found)}


def test_an_algorithm_that_wins_by_far_is_confirmed():
  claims = _judged(made_up.timings(_seconds, (*_OURS, *_PEER)))
  assert claims["nvrar-over-rivals"].holds is True
  assert claims["nvrar-over-rivals"].measured == pytest.approx(2, rel=0.01)
  assert claims["nvrar-over-xla"].holds is True
  assert claims["nvrar-over-xla"].measured == pytest.approx(2.5, rel=0.01)
  assert claims["nvrar-of-openmpi"].holds is True
  assert claims["nvrar-of-openmpi"].measured == pytest.approx(1.11, rel=0.01)
  assert "openmpi:ring" in claims["nvrar-of-openmpi"].note


@pytest.mark.parametrize(
  ("rival", "claim", "size"),
  [
    ("double_tree", "nvrar-over-rivals", 512 * K),
    ("ring", "nvrar-over-rivals", 8 * K),
    ("xla", "nvrar-over-xla", 256 * K),
    ("openmpi:default", "nvrar-of-openmpi", 2048 * K),
  ],
)
def test_one_size_at_which_it_loses_refutes(rival, claim, size):
  """A rival that is faster at one size, even if slow at all others."""

  def seconds(name, at):
    return 0.005 if (name, at) == (rival, size) else _seconds(name, at)

  claims = _judged(made_up.timings(seconds, (*_OURS, *_PEER)))
  assert claims[claim].holds is False
  measured, interval = claims[claim].measured, claims[claim].interval
  assert isinstance(measured, float)
  assert interval is not None
  assert interval[0] <= measured <= interval[1]


def test_sizes_beyond_the_claim_do_not_count():
  def seconds(name, at):
    slow = name == "nvrar" and at > 512 * K
    return 0.1 if slow else _seconds(name, at)

  claims = _judged(made_up.timings(seconds, (*_OURS, *_PEER)))
  assert claims["nvrar-over-rivals"].holds is True
  assert claims["nvrar-over-xla"].holds is True
  assert claims["nvrar-of-openmpi"].holds is False


def test_the_best_of_all_is_the_best_flat_one_too():
  claims = _judged(made_up.timings(_seconds, (*_OURS, *_PEER)))
  best = claims["nvrar-over-best"]
  assert best.measured == "1.20 to 1.20"  # over flat recursive doubling
  assert best.holds is None
  assert best.paper_value == "1.9 to 3.6 over NCCL"
  winners = str(claims["winners"].measured)
  assert winners.startswith("8K nvrar (100 %), 128K nvrar")


def test_trap_10_what_a_neighbour_disturbed_is_not_judged():
  rows = made_up.timings(
    _seconds, (*_OURS, *_PEER), free_cores=[2.0] * 4 + [1.0]
  )
  for claim in _judged(rows).values():
    if claim.time_dependent:
      assert claim.holds is None
      if claim.measured is not None:
        assert "a neighbour left fewer than five blocks" in claim.note or (
          "no cells" in claim.note
        )


def test_a_disturbed_peer_leaves_the_others_judged():
  ours = made_up.timings(_seconds, _OURS)
  theirs = made_up.timings(_seconds, _PEER, free_cores=[0.5] * 5)
  claims = _judged([*ours, *theirs])
  assert claims["nvrar-of-openmpi"].holds is None
  assert claims["nvrar-over-rivals"].holds is True
  assert "neighbour" not in claims["winners"].note
  assert claims["model-sizes"].holds is not None


def test_without_links_nothing_about_time_is_judged():
  claims = _judged([], reason="links cannot be emulated here")
  timed = [claim for claim in claims.values() if claim.time_dependent]
  assert len(timed) == 9
  for claim in timed:
    assert (claim.holds, claim.measured) == (None, None)
    assert claim.note == "not judged: links cannot be emulated here"
  assert claims["bf16-doubling-over-ring"].holds is False


def test_trap_01_every_claim_of_time_names_its_links():
  config = made_up.config()
  config.fast.sizes = made_up.SIZES
  found = made_up.findings(made_up.timings(_seconds, _OURS), config)
  claims = collectives_claims.judge(config, found)
  timed = [claim for claim in claims if claim.time_dependent]
  assert len({claim.id for claim in timed}) == 15
  for claim in timed:
    assert "emulated links (4x2,alpha=" in claim.statement
    assert claim.kind == "measured"
    assert claim.scope != "paper"


def _model_seconds(name: str, size: int) -> float:
  machine = cost_model.Machine(2e-3, 1e-8, 1e-4, 1e-9, 0.0, 1e-3)
  terms = cost_model.terms(name, "all_reduce", sched.Grid(4, 2), size)
  return machine.predict(terms)


def test_the_model_is_confirmed_on_times_that_obey_it():
  claims = _judged(made_up.timings(_model_seconds, _OURS, noise=0.0))
  for group in ("sizes", "algorithms"):
    assert claims[f"model-{group}"].holds is True
    assert claims[f"model-{group}"].measured == pytest.approx(0, abs=1e-6)
  assert claims["model-networks"].holds is None


def test_trap_09_the_model_is_judged_by_what_it_has_not_seen():
  """A held-out size that disobeys is not fitted, and refutes."""

  def seconds(name, size):
    odd = size == 256 * K and name == "ring"
    return _model_seconds(name, size) * (1.3 if odd else 1)

  claims = _judged(made_up.timings(seconds, _OURS, noise=0.0))
  assert claims["model-sizes"].holds is False
  assert claims["model-sizes"].measured == pytest.approx(100 * 0.3 / 1.3)
  assert "ring 256K" in claims["model-sizes"].note


def test_an_algorithm_that_disobeys_is_seen_by_the_others():
  def seconds(name, size):
    return _model_seconds(name, size) * (2 if name == "nvrar" else 1)

  claims = _judged(made_up.timings(seconds, _OURS, noise=0.0))
  assert claims["model-algorithms"].holds is False


def test_networks_of_another_grid_are_predicted():
  more = config_lib.Links(network="8x1,alpha=1ms,bw=1Gb", sizes=(8 * K,))
  config = made_up.config(more=(more,))
  rows = made_up.timings(_model_seconds, _OURS, noise=0.0)
  found = made_up.findings(rows, config)
  other = collectives_analysis.analyse(
    config,
    {
      config.headline.network: rows,
      more.network: made_up.timings(lambda *_: 0.02, ["ring"], sizes=[8 * K]),
    },
    "",
    found.rounding,
  )
  (cell,) = other.predictions["median_us"]["networks"]
  assert (cell.network, cell.algorithm, cell.size) == (
    *(more.network, "ring", 8 * K),
  )
  machine = cost_model.Machine(2e-3, 1e-8, 1e-4, 1e-9, 0.0, 1e-3)
  terms = cost_model.terms("ring", "all_reduce", sched.Grid(8), 8 * K)
  assert cell.predicted == pytest.approx(machine.predict(terms), rel=0.02)
  assert cell.measured == pytest.approx(0.02)


@pytest.mark.parametrize(
  ("errors", "verdicts"),
  [
    ({"ring": 0.02}, (True, True, True)),
    ({"ring": 0.019}, (False, True, True)),
    ({"ring": 0.02, "nvrar": 0.0112}, (True, False, True)),
  ],
)
def test_rounding_is_judged_by_its_rules(errors, verdicts):
  rounding = made_up.rounding(lambda name: errors.get(name, 0.01))
  settings = made_up.config().accuracy
  claims = rounding_claims.judge(settings, rounding)
  assert tuple(claim.holds for claim in claims) == verdicts
  rounding["bruck", "float32", 64] = np.array([0.0012])
  assert rounding_claims.judge(settings, rounding)[2].holds is False


def test_the_rows_of_the_ledger_are_the_headline_s():
  config = made_up.config()
  found = made_up.findings(made_up.timings(_seconds, (*_OURS, *_PEER)), config)
  rows = collectives_analysis.bench_rows(config, found)
  assert len(rows) == len(made_up.SIZES) * (len(_OURS) + 1)
  assert rows[5].name == "8K openmpi:ring"  # its best
  assert rows[5].median == pytest.approx(0.009, rel=0.01)
  assert dataclasses.replace(rows[0]).verdict == "judged"
