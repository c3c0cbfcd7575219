"""The executor against plain numpy, and what bfloat16 costs."""

import ml_dtypes
import numpy as np
import pytest

from collectives import algorithms, executor
from collectives import schedule as sched

_GRIDS = [(1, 1), (2, 1), (5, 1), (8, 1), (3, 2), (2, 4), (4, 3)]
_FORMS = [
  (name, collective)
  for name, algorithm in algorithms.ALGORITHMS.items()
  for collective in algorithm.forms
]


def _build(name, collective, grid, chunks=1):
  return algorithms.find(name, collective).schedule(
    collective, sched.Grid(*grid), chunks
  )


def _different(size, length):
  """No two entries of all ranks are alike."""
  count = size * length
  return np.random.default_rng(0).permutation(count).reshape(size, length)


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize(("name", "collective"), _FORMS)
def test_equals_numpy(name, collective, chunks):
  for grid in _GRIDS:
    schedule = _build(name, collective, grid, chunks)
    size = grid[0] * grid[1]
    for length in (0, 1, 7):
      if collective == "reduce_scatter":
        inputs = _different(size, size * length)
        expected = inputs.sum(0).reshape(size, length)
      else:
        inputs = _different(size, length)
        gathers = collective == "all_gather"
        whole = inputs.reshape(-1) if gathers else inputs.sum(0)
        expected = np.tile(whole, (size, 1))
      got = executor.execute(schedule, inputs)
      np.testing.assert_array_equal(got, expected, str((grid, length)))


def test_maximum_and_mean():
  inputs = _different(6, 10)
  schedule = _build("nvrar", "all_reduce", (3, 2))
  top = executor.execute(schedule, inputs, op="max")
  np.testing.assert_array_equal(top, np.tile(inputs.max(0), (6, 1)))
  mean = executor.execute(schedule, inputs.astype(float), op="mean")
  np.testing.assert_allclose(mean, np.tile(inputs.mean(0), (6, 1)), 1e-15)


def test_trap_07_bfloat16_rounds_at_every_step():
  """Error against float64, as published: doubling 2.2 times better at 64."""
  inputs = np.random.default_rng(0).standard_normal((64, 4096))
  inputs = inputs.astype(ml_dtypes.bfloat16)
  exact = inputs.astype(np.float64).sum(0)

  def error(name, **how):
    schedule = _build(name, "all_reduce", (64,))
    got = executor.execute(schedule, inputs, **how).astype(np.float64)
    assert (got == got[0]).all()
    return np.sqrt(np.mean((got[0] - exact) ** 2) / np.mean(exact**2))

  doubling, ring = error("recursive_doubling"), error("ring")
  wide = error("ring", accumulate=np.float32)
  assert wide < 0.0020  # one rounding: 2^-9 / sqrt(3), of what varies
  assert 2 * wide < doubling < ring / 1.8


def test_inputs_that_do_not_fit():
  schedule = _build("ring", "reduce_scatter", (4,))
  with pytest.raises(ValueError, match="got 3 rows, expected 4 ranks"):
    executor.execute(schedule, np.zeros((3, 4)))
  with pytest.raises(ValueError, match="got 7 columns, expected a multiple"):
    executor.execute(schedule, np.zeros((4, 7)))
