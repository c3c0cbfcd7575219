"""What a plan lists, and that one process agrees with itself."""

import jax
import jax.numpy as jnp
import pytest

import collectives
from tests.collectives import cases

_X = jnp.zeros((4, 8))


def _plan(function):
  return collectives.plan(cases.per_rank(function, 2, 2), _X)


def _looping(times: int):
  def body(x, axes):
    def step(y, _):
      return y + collectives.all_reduce(y, axes, algorithm="nvrar"), None

    y, _ = jax.lax.scan(step, x, length=times)
    return y + jax.lax.psum(x.sum(), "local")

  return body


def test_plan_lists_collectives_inside_loops_and_no_arithmetic():
  assert [line.split(":")[0] for line in _plan(_looping(3))] == [
    "shard_map over {'node'",
    "scan, 3 times",
    "schedule_sum of float32[8]",
    "psum_invariant of float32[]",
  ]


def test_trap_12_plans_differ_by_trips_algorithm_and_chunks():
  def reducing(**how):
    return lambda x, axes: collectives.all_reduce(x, axes, **how)

  plans = {
    _plan(_looping(2)),
    _plan(_looping(3)),
    _plan(reducing(algorithm="nvrar")),
    _plan(reducing(algorithm="nvrar", chunks=2)),
    _plan(reducing(algorithm="nvrar", op="max")),
    _plan(reducing(algorithm="ring")),
    _plan(reducing()),
  }
  assert len(plans) == 7
  assert _plan(_looping(2)) == _plan(_looping(2))


def test_one_process_agrees_with_itself():
  collectives.check_agreement("alone", _plan(_looping(2)))


def test_a_guard_lets_errors_of_others_through():
  with pytest.raises(ValueError, match="mine"):
    with collectives.guard("step", timeout=60):
      raise ValueError("mine")
  with pytest.raises(ValueError, match="timeout: got 0, expected seconds"):
    with collectives.guard("step", timeout=0):
      pass
