import pytest

from collectives import machines
from collectives import schedule as sched
from collectives.simulator import systems, tuner

_MB = 1 << 20
_A100 = tuner.Links(100e9, 4, hopper=False, amd=True)


@pytest.mark.parametrize("name", machines.names())
def test_every_constant_has_a_source(name):
  profile = machines.load(name)
  assert len(profile.constants) == 11
  for constant in profile.constants.values():
    assert constant.value > 0
    assert constant.unit
    assert len(constant.source) > 20
  # No figure of the papers whose claims are modelled with it.
  assert "2511.09557" not in str(profile)
  assert "2504.18658" not in str(profile)


def test_only_assumptions_are_scaled():
  profile = machines.load("frontier")
  slow = profile.scaled(2)
  assert slow["latency"] == 2 * profile["latency"]
  assert slow["local_bandwidth"] == profile["local_bandwidth"] / 2
  assert slow["bandwidth"] == profile["bandwidth"]
  assert slow["ranks"] == 8


def test_two_gcds_share_a_card():
  network = machines.load("frontier").network(16)
  assert network.grid == sched.Grid(2, 8)
  assert network.cards == 4
  assert network.latency == pytest.approx(4e-6)


def test_errors_say_what_to_give():
  with pytest.raises(ValueError, match=r"'fronteir'.*did you mean 'frontier'"):
    machines.load("fronteir")
  frontier = machines.load("frontier")
  with pytest.raises(ValueError, match="got 12, expected a multiple of 8"):
    frontier.network(12)
  with pytest.raises(ValueError, match="got 'all_reduce', expected"):
    systems.vendor(frontier, "all_reduce", 64, _MB)


def test_nccl_tree_by_hand():
  """128 KiB over 8 nodes of 4: four channels carry 17.8 GB/s each."""
  got = tuner.nccl("all_reduce", sched.Grid(8, 4), 1 << 17, _A100)
  latency = 6.8 + 2 * (3 * 0.6 + 3 * 5.0)
  assert got[:2] == ("tree", "ll")
  assert got.seconds == pytest.approx(
    latency * 1e-6 + (1 << 17) / (4 * 17.8e9 / 3.8 * 0.5 / 2)
  )


def test_nccl_ring_by_hand():
  """1 GiB: only the bandwidth of the ring counts, and its plateau."""
  got = tuner.nccl("all_reduce", sched.Grid(8, 4), 1 << 30, _A100)
  latency = 1.4 * (8.4 + 48 * 6.0 + 14 * 14.0)
  assert got[:2] == ("ring", "simple")
  assert got.seconds == pytest.approx(
    latency * 1e-6 + 2 * 31 / 32 * (1 << 30) / 100e9
  )


def test_nccl_has_pat_for_single_ranks_only():
  few = tuner.nccl("all_gather", sched.Grid(64, 1), 1 << 24, _A100)
  assert few.algorithm == "pat"
  assert few.seconds == pytest.approx(
    (8 + 6 * 4 + 64 * 2.8) * 1e-6 + (1 << 24) / 75e9
  )
  shared = tuner.nccl("all_gather", sched.Grid(16, 4), 1 << 24, _A100)
  assert shared.algorithm == "ring"


def test_rccl_is_a_ring_by_hand():
  """By Simple, posting a step takes 6 us: more than its hop within a node."""
  many, few = (
    tuner.rccl("all_gather", sched.Grid(256, 8), nbytes, _A100)
    for nbytes in (1 << 30, 1 << 24)
  )
  assert many[:2] == ("ring", "simple")
  assert many.seconds == pytest.approx(
    (17.0 + 1792 * 6.0 + 255 * 15.1) * 1e-6 + 2047 / 2048 * (1 << 30) / 100e9
  )
  assert few[:2] == ("ring", "ll128")
  assert few.seconds == pytest.approx(
    (12.0 + 1792 * 2.2 + 255 * 19.8) * 1e-6
    + 2047 / 2048 * (1 << 24) / (100e9 * 0.34 * 0.5)
  )


def test_pccl_is_nearly_flat_where_rings_are_linear():
  frontier = machines.load("frontier")
  flat = [
    systems.pccl(frontier, "all_gather", ranks, 64 * _MB)
    for ranks in (128, 512)
  ]
  assert flat[1] / flat[0] < 1.1
  for linear in (systems.cray_mpich, lambda *args: systems.vendor(*args)[2]):
    few, many = (
      linear(frontier, "all_gather", ranks, _MB) for ranks in (512, 2048)
    )
    assert many / few > 3


def test_the_host_of_cray_mpich_reduces():
  frontier = machines.load("frontier")
  gathered = systems.cray_mpich(frontier, "all_gather", 128, 64 * _MB)
  reduced = systems.cray_mpich(frontier, "reduce_scatter", 128, 64 * _MB)
  block = 64 * _MB / 128
  assert reduced - gathered == pytest.approx(
    127 * (block / 36e9 + 8 * 3 * block / 204.8e9)
  )
