"""What is modelled of Frontier, and the rules for it."""

import dataclasses

import pytest

from collectives import machines
from collectives.simulator import systems
from experiments.pccl import (
  modelled_claims,
  modelled_config,
  modelled_study,
  modelled_training,
  step_traffic,
)
from experiments.pccl.modelled_study import (
  CRAY_MPICH,
  OURS,
  PCCL_RING,
  RCCL,
)
from research.runs import errors

_M = 1 << 20
_TRAFFIC = step_traffic.Traffic(
  (step_traffic.Call("all_gather", 10**9, 10),), 1e10 + 2
)


def _judged(seconds, traffic=None):
  settings = modelled_config.Modelled(
    ranks=(128, 2048), map_ranks=(16, 2048), assumed=()
  )
  found = modelled_study.Found(
    clock=seconds, assumed={}, traffic=traffic or {}, scores={}
  )
  return {c.id: c for c in modelled_claims.judge(settings, found)}


def _by_system(**times):
  """Seconds by system, whatever the rest."""
  return lambda system, *_: times.get(system.replace(" ", "_"), 1.0)


def test_bands_are_judged_at_every_size():
  claims = _judged(_by_system(RCCL=20.0, Cray_MPICH=30.0))
  assert claims["modelled-all-gather-over-rccl"].holds
  assert claims["modelled-all-gather-over-cray-mpich"].holds
  assert claims["modelled-reduce-scatter-over-rccl"].holds is False

  def odd(system, collective, ranks, size):
    return 5.9 if system == RCCL and size == 512 * _M else 20.0

  one = _by_system(RCCL=20.0)
  claims = _judged(
    lambda system, *rest: odd(system, *rest) if system == RCCL else one(system)
  )
  claim = claims["modelled-all-gather-over-rccl"]
  assert (claim.holds, claim.measured) == (False, "5.90 to 20.00")
  assert claim.kind == "modelled"


def test_a_reduce_scatter_is_judged_by_its_best_size():
  best = lambda system, collective, ranks, size: (
    100.0 if system == RCCL and size == 16 * _M else 1.0
  )
  claim = _judged(best)["modelled-reduce-scatter-over-rccl"]
  assert (claim.holds, claim.measured) == (True, 100.0)


def test_growth_is_seen_from_both_sides():
  linear = lambda system, collective, ranks, size: (
    1.0 if system == OURS else float(ranks)
  )
  assert _judged(linear)["modelled-growth"].holds
  everything = lambda system, collective, ranks, size: float(ranks)
  assert _judged(everything)["modelled-growth"].holds is False
  nothing = lambda *_: 1.0
  assert _judged(nothing)["modelled-growth"].holds is False


@pytest.mark.parametrize(
  ("ring", "name"), [(PCCL_RING, "pccl-ring"), (RCCL, "rccl")]
)
def test_the_map_needs_a_winner_at_either_corner(ring, name):
  def corners(small, large):
    def seconds(system, collective, ranks, size):
      ratio = {(2048, 1 << 18): small, (16, 1 << 30): large}
      return ratio.get((ranks, size), 1.0) if system == ring else 1.0

    return _judged(seconds)[f"modelled-map-{name}"]

  assert corners(3.0, 0.5).holds
  assert corners(3.0, 0.995).holds is False
  assert corners(1.005, 0.5).holds is False


def test_a_step_is_judged_by_the_usual_load():
  """At 2,048 GCDs a 7B step computes for 1.2 s; all gathers take 1 s."""
  computed = modelled_training.computing("7b", 2048, modelled_training.USUAL)
  assert computed == pytest.approx(4.33e10 * 2048 / (191.5e12 * 0.3838), 1e-3)

  def gathers(rccl):
    return lambda system, _, ranks, __: (
      (rccl if system == RCCL else 0.1) if ranks == 2048 else 1e-6
    )

  faster = 0.1 + 0.6 * (computed + 1) / 10  # 60 % more in ten calls
  claim = _judged(gathers(faster), {"7b": _TRAFFIC})["modelled-zero3-7b"]
  assert claim.holds
  assert claim.measured == pytest.approx(60)
  assert claim.interval is not None
  low, high = claim.interval
  assert low < 60 < high
  assert _judged(gathers(0.1), {"7b": _TRAFFIC})["modelled-zero3-7b"].holds is (
    False
  )


def test_hidden_communication_takes_what_is_longer():
  load = modelled_training.Load(hidden=True)
  step = lambda seconds: modelled_training.step(
    lambda *_: seconds, RCCL, "7b", _TRAFFIC, 2048, load
  )
  computed = modelled_training.computing("7b", 2048, load)
  assert step(0.0) == step(computed / 10) == computed
  assert step(computed) == pytest.approx(10 * computed)


def test_bytes_other_than_planned_are_seen():
  for extra, holds in ((2, True), (-1e6, False), (1e8, False)):
    traffic = dataclasses.replace(_TRAFFIC, compiled=1e10 + extra)
    claim = _judged(lambda *_: 1.0, {"7b": traffic})["modelled-zero3-7b-bytes"]
    assert (claim.holds, claim.kind) == (holds, "compiled")


def test_a_compiled_step_sends_what_is_planned():
  """All layers, as many ranks as one likes; the loss is one number, reduced."""
  small = dataclasses.replace(
    step_traffic.MODELS["7b"],
    **{"vocab_size": 64, "embed_dim": 32, "num_layers": 3, "num_heads": 2},
    **{"num_kv_heads": 2, "head_dim": 16, "mlp_dim": 64},
  )
  planned = step_traffic.Traffic(step_traffic.plan(small), 0.0).planned
  block, ends = 4 * 32 * 32 + 3 * 32 * 64 + 2 * 32, 64 * 32 + 32
  assert planned == 3 * 3 * block + 2 * ends
  assert step_traffic.compile_step(small, 2) == pytest.approx(planned + 2)


def test_the_models_are_gpt_3_s_size():
  for name, billions in (("7b", 6.7), ("13b", 12.9)):
    parameters = step_traffic.MODELS[name].num_parameters
    assert parameters == pytest.approx(1e9 * billions, rel=0.01)


def test_times_between_two_sizes_are_simulated_ones():
  profile = machines.load("frontier")
  clock = modelled_study.Simulated(profile)
  for side in modelled_study.SIDES:
    for system in (OURS, PCCL_RING):
      for size in (1 << 14, 48 * _M, 1 << 31):
        whole = systems.pccl(profile, side, 32, size, system)
        assert clock(system, side, 32, size) == pytest.approx(whole, rel=1e-9)
  assert clock(CRAY_MPICH, "all_gather", 16, _M) > 0


def test_gcds_that_fill_no_nodes_are_refused():
  for ranks in (8, 12):
    with pytest.raises(errors.UserError, match=f"modelled.ranks: got {ranks}"):
      modelled_config.Modelled(ranks=(ranks,)).check()
