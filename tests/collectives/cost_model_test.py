import dataclasses
import itertools
import math

import numpy as np
import pytest

from collectives import algorithms, cost_model
from collectives import schedule as sched

_M = 1 << 20
_GRIDS = [sched.Grid(4, 2), sched.Grid(2, 4), sched.Grid(8, 4), sched.Grid(8)]


def _closed(name, collective, grid):
  """Textbook counts for powers of two: steps, shares of M, by level.

  Flat ranks are numbered node by node: a ring crosses a node's port once each
  way in each step, an exchange over distance d crosses it from all G ranks
  once d is G or more.
  """
  nodes, local = grid
  p, logs = grid.size, int(math.log2(grid.size))
  inner = int(math.log2(local))
  outer = logs - inner
  if name == "ring":
    rounds = 2 if collective == "all_reduce" else 1
    reduced = 0 if collective == "all_gather" else (p - 1) / p
    return rounds * (p - 1), rounds * (p - 1) / p, 0, 0, reduced
  if name == "recursive_doubling":
    return outer, outer * local, inner, inner, logs
  if name == "rabenseifner":
    far = 2 * (nodes - 1) / nodes  # all ranks of a node, 1/G of the buffer each
    return 2 * outer, far, 2 * inner, 2 * (local - 1) / local, (p - 1) / p
  ring = (local - 1) / local
  if name == "nvrar":
    return outer, outer, 2 * (local - 1), 2 * ring, ring + outer / local
  across = (nodes - 1) / nodes
  steps = nodes - 1 if name == "pccl_ring" else outer
  if collective == "all_reduce":
    reduced = ring + across / local
    return 2 * steps, 2 * across, 2 * (local - 1), 2 * ring, reduced
  reduced = 0 if collective == "all_gather" else ring + across / local
  return steps, across, local - 1, ring, reduced


_NAMES = [
  ("ring", "all_reduce"),
  ("ring", "all_gather"),
  ("recursive_doubling", "all_reduce"),
  ("rabenseifner", "all_reduce"),
  ("nvrar", "all_reduce"),
  *(
    itertools.product(
      ("pccl_ring", "pccl_recursive"),
      ("all_reduce", "all_gather", "reduce_scatter"),
    )
  ),
]


@pytest.mark.parametrize("grid", _GRIDS, ids=str)
@pytest.mark.parametrize(("name", "collective"), _NAMES)
def test_counts_are_the_textbook_formulas(name, collective, grid):
  got = cost_model.terms(name, collective, grid, _M)
  steps, far, local_steps, near, reduced = _closed(name, collective, grid)
  expected = (steps, far * _M, local_steps, near * _M, reduced * _M)
  np.testing.assert_allclose(dataclasses.astuple(got), expected, rtol=1e-12)


def test_trap_09_ranks_of_a_node_share_its_port():
  terms = [
    cost_model.terms(
      "recursive_doubling", "all_reduce", sched.Grid(4, local), _M
    ).inter_bytes
    for local in (1, 2, 4)
  ]
  assert terms == [2 * _M, 4 * _M, 8 * _M]


def test_chunks_of_one_tick_share_a_latency():
  whole = cost_model.terms("ring", "all_gather", sched.Grid(4), _M)
  cut = cost_model.terms("ring", "all_gather", sched.Grid(4), _M, chunks=3)
  assert cut.inter_steps == whole.inter_steps + 2
  assert cut.inter_bytes == pytest.approx(whole.inter_bytes)


def test_xla_is_what_gloo_runs():
  grid = sched.Grid(4, 2)
  for collective, name in (
    ("all_reduce", "ring"),
    ("all_gather", "ring"),
    ("reduce_scatter", "recursive"),
  ):
    assert cost_model.terms("xla", collective, grid, _M) == cost_model.terms(
      name, collective, grid, _M
    )


def test_a_fit_finds_known_constants():
  true = cost_model.Machine(1e-3, 8e-9, 2e-4, 1e-9, 3e-10, 5e-5)
  counted = [
    cost_model.terms(name, "all_reduce", grid, nbytes)
    for name in algorithms.names("all_reduce")
    for grid in (sched.Grid(4, 2), sched.Grid(2, 3))
    for nbytes in (1 << 10, 1 << 17, 1 << 21)
  ]
  found = cost_model.fit(counted, [true.predict(one) for one in counted])
  np.testing.assert_allclose(
    dataclasses.astuple(found), dataclasses.astuple(true), rtol=1e-6
  )


def test_a_fit_keeps_constants_above_zero():
  counted = [
    cost_model.terms("ring", "all_reduce", sched.Grid(4), nbytes)
    for nbytes in (1 << 10, 1 << 20)
  ]
  found = cost_model.fit(counted, [2.0, 1.0])  # more bytes, less time
  assert min(dataclasses.astuple(found)) == 0
  assert found.alpha_local == found.beta_local == 0


def test_a_fit_weighs_relative_errors():
  """Of 1 s and 100 s the second may not drown the first."""
  terms = cost_model.Terms(1, 0.0, 0, 0.0, 0.0)
  found = cost_model.fit([terms, terms], [1.0, 100.0])
  assert found.predict(terms) == pytest.approx(1.01 / 1.0001)


def test_errors_say_what_to_give():
  one = cost_model.Terms(1, 0.0, 0, 0.0, 0.0)
  for counted, seconds in (([], []), ([one], []), ([one], [0.0])):
    with pytest.raises(ValueError, match=r"^fit: got \d counts and \d times"):
      cost_model.fit(counted, seconds)
  ring = algorithms.find("ring", "all_gather")
  schedule = ring.schedule("all_gather", sched.Grid(4))
  with pytest.raises(ValueError, match="got 2 x 3 ranks, expected 4"):
    cost_model.count(schedule, 1, sched.Grid(2, 3))
