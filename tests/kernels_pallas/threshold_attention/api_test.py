"""The entry point: which implementation runs, and what it refuses."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from kernels_pallas.threshold_attention import api, result, triton
from tests.kernels_pallas.threshold_attention import cases


def _refuse(*args, **kwargs):
  raise result.UnsupportedError("got a whim, expected reason")


def test_falls_back_to_xla_with_a_line_in_the_log(caplog, monkeypatch):
  args = cases.make([40])
  monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
  with caplog.at_level("INFO", logger="absl"):
    got = api.threshold_attention(*args)
  assert "falls back to XLA: the backend is cpu, not gpu" in caplog.text
  expected = api.threshold_attention(*args, implementation="xla")
  np.testing.assert_array_equal(got.out, expected.out)


def test_tries_in_order(monkeypatch):
  args = cases.make([40])
  monkeypatch.setitem(api.IMPLEMENTATIONS, "triton", _refuse)
  got = api.threshold_attention(*args, implementation=("triton", "xla"))
  assert got.kept.shape == (1, 4)
  with pytest.raises(result.UnsupportedError, match="triton: got a whim"):
    api.threshold_attention(*args, implementation="triton")


def test_scale_is_one_over_root_width():
  args = cases.make([40], width=16)
  got = api.threshold_attention(*args)
  expected = api.threshold_attention(*args, scale=0.25)
  np.testing.assert_array_equal(got.out, expected.out)


def test_runs_under_jit_and_scan():
  args = cases.make([40, 33])

  def step(total, _):
    return total + api.threshold_attention(*args).kept, None

  total, _ = jax.jit(
    lambda: jax.lax.scan(step, jnp.zeros((2, 4), jnp.int32), length=3)
  )()
  np.testing.assert_array_equal(total, 3 * api.threshold_attention(*args).kept)


@pytest.mark.parametrize("implementation", ["cuda", ("xla", "cuda"), ()])
def test_unknown_names_are_refused(implementation):
  with pytest.raises(ValueError, match=r"expected names out of \['triton', 'x"):
    api.threshold_attention(*cases.make([40]), implementation=implementation)


@pytest.mark.parametrize(
  ("at", "value", "message"),
  [
    (0, jnp.ones((1, 5, 16)), "q: got 5 heads, expected a multiple of the 2 k"),
    (1, jnp.ones((3, 2, 16, 16)), r"k_pages: got shape \(3, 2, 16, 16\), exp"),
    (3, jnp.zeros((2, 2), jnp.int32), r"table: got shape \(2, 2\), expected"),
    (4, jnp.zeros((2,), jnp.int32), r"lengths: got shape \(2,\), expected \(1"),
    (5, jnp.zeros((1, 2)), r"log_threshold: got shape \(1, 2\), expected \(1"),
    (2, jnp.ones((3, 2, 32, 16), jnp.bfloat16), "v_pages bfloat16, expected t"),
  ],
)
def test_sizes_that_do_not_fit_are_refused(at, value, message):
  args = list(cases.make([40]))
  args[at] = value
  with pytest.raises(ValueError, match=message):
    inspect.unwrap(api.threshold_attention)(*args)  # as users call it


def test_configurations_fill_a_gpu():
  few = triton.config_for(1, 8, tokens=131072, page_size=128)
  many = triton.config_for(64, 8, tokens=131072, page_size=128)
  short = triton.config_for(1, 8, tokens=300, page_size=32)
  assert (few.splits, many.splits, short.splits) == (32, 1, 1)
  assert (few.block, short.block) == (64, 32)
