"""The entry point: which implementation runs, and what it refuses."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from kernels_pallas import implementations
from kernels_pallas.threshold_attention import api
from tests.kernels_pallas.threshold_attention import cases


def _refuse(*args, **kwargs):
  raise implementations.UnsupportedError("got a whim, expected reason")


def test_takes_xla_with_a_line_in_the_log(caplog, monkeypatch):
  args = cases.make([40])[:6]
  monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
  implementations._say_once.cache_clear()
  with caplog.at_level("INFO", logger="absl"):
    got = api.threshold_attention(*args)
  assert 'takes "xla": the backend is cpu, not gpu' in caplog.text
  expected = api.threshold_attention(*args, implementation="xla")
  np.testing.assert_array_equal(got.out, expected.out)


def test_tries_in_order(monkeypatch):
  args = cases.make([40])[:6]
  monkeypatch.setitem(api.IMPLEMENTATIONS, "triton", _refuse)
  got = api.threshold_attention(*args, implementation=("triton", "xla"))
  assert got.kept.shape == (1, 1, 4)
  with pytest.raises(
    implementations.UnsupportedError, match="triton: got a whim"
  ):
    api.threshold_attention(*args, implementation="triton")


def test_scale_is_one_over_root_width():
  args = cases.make([40], width=16)[:6]
  got = api.threshold_attention(*args)
  expected = api.threshold_attention(*args, scale=0.25)
  np.testing.assert_array_equal(got.out, expected.out)


def test_runs_under_jit_and_scan():
  args = cases.make([40, 33])[:6]

  def step(total, _):
    return total + api.threshold_attention(*args).kept, None

  total, _ = jax.jit(
    lambda: jax.lax.scan(step, jnp.zeros((2, 1, 4), jnp.int32), length=3)
  )()
  np.testing.assert_array_equal(total, 3 * api.threshold_attention(*args).kept)


@pytest.mark.parametrize("implementation", ["cuda", ("xla", "cuda"), ()])
def test_unknown_names_are_refused(implementation):
  with pytest.raises(
    ValueError, match=r"expected names out of \['reference', 't"
  ):
    api.threshold_attention(
      *cases.make([40])[:6], implementation=implementation
    )


@pytest.mark.parametrize(
  ("at", "value", "message"),
  [
    (
      0,
      jnp.ones((1, 1, 5, 16)),
      "q: got 5 heads, expected a multiple of the 2 k",
    ),
    (1, jnp.ones((3, 2, 16, 16)), r"k_pages: got shape \(3, 2, 16, 16\), exp"),
    (3, jnp.zeros((2, 2), jnp.int32), r"table: got shape \(2, 2\), expected"),
    (4, jnp.zeros((2,), jnp.int32), r"lengths: got shape \(2,\), expected \(1"),
    (5, jnp.zeros((1, 2)), r"log_threshold: got shape \(1, 2\), expected \(1"),
    (5, jnp.zeros((1, 2, 4)), r"log_threshold: got shape \(1, 2, 4\), expect"),
    (2, jnp.ones((3, 2, 32, 16), jnp.bfloat16), "v_pages bfloat16, expected t"),
  ],
)
def test_sizes_that_do_not_fit_are_refused(at, value, message):
  args = list(cases.make([40])[:6])
  args[at] = value
  with pytest.raises(ValueError, match=message):
    inspect.unwrap(api.threshold_attention)(*args)  # as users call it
