import dataclasses
from typing import Any

import numpy as np
import pytest

from collectives import algorithms, cost_model, simulator
from collectives import schedule as sched
from collectives.simulator import flows

_M = 1 << 20


def _network(grid, **changes):
  constants: dict[str, Any] = {
    "latency": 1e-5,
    "bandwidth": 1e9,
    "local_latency": 2e-6,
    "local_bandwidth": 4e9,
  }
  return simulator.Network(grid, **(constants | changes))


def _schedule(name, collective, grid, chunks=1):
  return algorithms.find(name, collective).schedule(collective, grid, chunks)


def _seconds(name, collective, network, nbytes=_M, chunks=1, **options):
  schedule = _schedule(name, collective, network.grid, chunks)
  return simulator.simulate(schedule, network, nbytes, **options).seconds


def _fill(tx, rx, capacities):
  """Max-min rates the slow way: all rates rise until a port is full."""
  ends = [[("out", t), ("in", r)] for t, r in zip(tx, rx, strict=True)]
  left = {
    (way, i): c for way in ("out", "in") for i, c in enumerate(capacities)
  }
  result, rising = [0.0] * len(ends), set(range(len(ends)))
  while rising:
    users = {port: [i for i in rising if port in ends[i]] for port in left}
    rise = min(left[p] / len(used) for p, used in users.items() if used)
    for port, used in users.items():
      left[port] -= rise * len(used)
    for i in rising:
      result[i] += rise
    rising = {i for i in rising if all(left[p] > 1e-9 for p in ends[i])}
  return result


@pytest.mark.parametrize("seed", range(20))
def test_rates_are_max_min_fair(seed):
  rng = np.random.default_rng(seed)
  tx, rx = rng.integers(0, 5, (2, 12))
  capacities = rng.integers(1, 9, 5).astype(float)
  np.testing.assert_allclose(
    flows.rates(tx, rx, capacities), _fill(tx, rx, capacities), rtol=1e-6
  )


@pytest.mark.parametrize(
  ("name", "collective"),
  [
    (name, collective)
    for collective in ("all_reduce", "all_gather", "reduce_scatter")
    for name in algorithms.names(collective)
  ],
)
@pytest.mark.parametrize("grid", [sched.Grid(8), sched.Grid(4, 2)], ids=str)
def test_where_all_ranks_do_the_same_it_is_the_cost_model(
  name, collective, grid
):
  network = _network(grid, gamma=1e-10)
  machine = cost_model.Machine(1e-5, 1e-9, 2e-6, 0.25e-9, 1e-10)
  terms = cost_model.terms(name, collective, grid, _M)
  assert _seconds(name, collective, network) == pytest.approx(
    machine.predict(terms), rel=1e-6
  )


def test_trap_09_ranks_of_a_node_share_its_cards():
  """The last two of five steps leave nodes of eight."""
  times = {
    cards: _seconds(
      "recursive_doubling",
      "all_reduce",
      _network(sched.Grid(4, 8), cards=cards, local_bandwidth=1e30),
    )
    for cards in (1, 2, 8)
  }
  fixed = 3 * 2e-6 + 2 * 1e-5
  for cards, seconds in times.items():
    assert seconds == pytest.approx(fixed + 2 * 8 / cards * _M / 1e9)


def test_trap_09_a_rendezvous_costs_a_latency_more():
  network = _network(sched.Grid(16))
  late = _seconds("recursive_doubling", "all_reduce", network, rendezvous=True)
  early = _seconds("recursive_doubling", "all_reduce", network)
  assert late - early == pytest.approx(4 * 1e-5)


def test_a_sender_that_is_late_does_not_wait_for_the_receiver():
  """Rank 2 is ready for rank 1 long before rank 1 is."""
  steps = (_message(0, 1, 100), _message(1, 2, 1))
  schedule = _by_hand(steps)
  done = simulator.simulate(
    schedule, _network(sched.Grid(3)), 100 * 1000, rendezvous=True
  )
  first = 2e-5 + 1e-4  # 100 slots of 1000 bytes
  assert done.finished.tolist() == pytest.approx(
    [first, first + 1.1e-5, first + 1.1e-5]
  )


def test_trap_09_ll_doubles_the_bytes_between_nodes_only():
  network = _network(sched.Grid(4, 2), latency=0.0, local_latency=0.0)
  simple = _seconds("nvrar", "all_reduce", network)
  ll = _seconds("nvrar", "all_reduce", network, low_latency=True)
  assert ll - simple == pytest.approx(2 * 2 * _M / 2 / 1e9)


def test_ranks_do_not_wait_for_others():
  """Two pairs, one of them with little to say, and no barrier between."""
  steps = (
    _message(0, 1, 100) + _message(2, 3, 1),
    _message(2, 3, 1),
  )
  done = simulator.simulate(_by_hand(steps), _network(sched.Grid(4)), 100_000)
  slow, quick = 1e-5 + 1e-4, 2 * (1e-5 + 1e-6)
  assert done.finished.tolist() == pytest.approx([slow, slow, quick, quick])
  assert done.seconds == pytest.approx(slow)


def test_what_comes_in_is_reduced_before_a_rank_goes_on():
  steps = (_message(0, 1, 100, "reduce"), _message(1, 0, 100))
  network = _network(sched.Grid(2), gamma=2e-9)
  done = simulator.simulate(_by_hand(steps), network, 100_000)
  assert done.seconds == pytest.approx(2 * 1.1e-4 + 2e-9 * 100_000)


def test_each_phase_is_launched_once():
  grid = sched.Grid(4, 2)
  plain = _seconds("nvrar", "all_reduce", _network(grid))
  launched = _seconds("nvrar", "all_reduce", _network(grid, launch=1e-3))
  assert launched - plain == pytest.approx(3e-3)


def test_chunks_hide_the_steps_of_a_tree():
  """Long buffers: 2 log2 p times M in one chunk, about 2 M in many."""
  network = _network(sched.Grid(16), latency=0.0)
  whole = _seconds("double_tree", "all_reduce", network)
  cut = _seconds("double_tree", "all_reduce", network, chunks=64)
  ideal = 2 * _M / 1e9
  assert whole > 3 * ideal
  assert ideal < cut < 1.5 * ideal


def test_nothing_to_send_takes_no_time_but_latencies():
  alone = _network(sched.Grid(1))
  assert _seconds("ring", "all_reduce", alone) == 0
  assert _seconds("ring", "all_gather", _network(sched.Grid(4)), 0) == (
    pytest.approx(3e-5)
  )


def test_thousand_ranks_take_few_events():
  network = _network(sched.Grid(128, 8), cards=4)
  schedule = _schedule("pccl_recursive", "all_gather", network.grid)
  done = simulator.simulate(schedule, network, _M)
  # 7 steps between nodes, where two ranks share each card, and 7 within.
  expected = 7 * 1e-5 + 127 / 128 * _M / 4e9 + 7 * 2e-6 + 7 / 8 * _M / 4e9
  assert done.seconds == pytest.approx(expected)
  assert done.events < 50


@pytest.mark.slow
def test_the_whole_of_4096_ranks():
  """Recursive, flat: three steps within nodes, nine that eight ranks share."""
  network = _network(sched.Grid(512, 8), cards=4)
  seconds = _seconds("recursive", "all_gather", network)
  near, far = 7 / 4096 * _M / 4e9, 4088 / 4096 * _M / 0.5e9
  assert seconds == pytest.approx(3 * 2e-6 + near + 9 * 1e-5 + far)


@pytest.mark.slow
def test_a_ring_of_4096_ranks():
  """17 million messages."""
  network = _network(sched.Grid(4096))
  seconds = _seconds("ring", "all_gather", network)
  step = 1e-5 + _M / 4096 / 1e9
  assert seconds == pytest.approx(4095 * step, rel=1e-6)


def test_errors_say_what_to_give():
  network = _network(sched.Grid(4))
  ring = _schedule("ring", "all_gather", sched.Grid(3))
  with pytest.raises(ValueError, match="network: got 4 ranks, expected 3"):
    simulator.simulate(ring, network, 1)
  with pytest.raises(ValueError, match="cards: got 2, expected 1 to 1"):
    dataclasses.replace(network, cards=2)


def _message(src, dst, slots, action: Any = "copy"):
  return (sched.Transfer(src, dst, tuple(range(slots)), action),)


def _by_hand(steps):
  ranks = 1 + max(max(src, dst) for step in steps for src, dst, _, _ in step)
  phase = sched.Phase("by hand", "node", steps)
  return sched.Schedule(
    "by_hand", "all_reduce", sched.Grid(ranks), 100, (phase,)
  )
