"""The one-pass kernel, interpreted: a superset, little larger, and no more."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import implementations, testing
from kernels_pallas.threshold_attention import (
  api,
  triton_launch,
  triton_one_pass,
)
from tests.kernels_pallas.threshold_attention import backends, cases

_kernel = functools.partial(backends.compiled, "triton_one_pass")


def _fresh(**options):
  """Compiled anew, for mutants."""
  config = triton_launch.Config(block=16, **options)
  return jax.jit(
    functools.partial(
      triton_one_pass.attend,
      scale=cases.SCALE,
      sinks=0,
      config=config,
      interpret=True,
    )
  )


def _assert_superset(got, expected):
  assert all(theirs <= ours for ours, theirs in zip(got, expected, strict=True))


@pytest.mark.parametrize(("block", "splits"), [(16, 1), (16, 8), (32, 2)])
def test_keeps_a_superset_and_says_what_it_kept(block, splits):
  case = cases.make([70, 129], queries=2, window=3, log_threshold=-4.5)
  exact = cases.definition(case, sinks=2)
  attend = _kernel(block=block, splits=splits, sinks=2)
  kept = cases.kept_sets(attend, case)
  _assert_superset(kept, exact.kept)
  got = attend(*case)
  assert got.kept.ravel().tolist() == [len(tokens) for tokens in kept]
  assert got.rows.tolist() == cases.rows(case, kept)
  np.testing.assert_allclose(got.lse, exact.lse, rtol=1e-5)
  _assert_attends_to(case, kept, got)


def _assert_attends_to(case, kept, got):
  """Output and mass are of these sets, mass relative to all scores."""
  for i, at in enumerate(np.ndindex(*case.log_threshold.shape)):
    out, mass = cases.average(*cases.look(case, at), kept[i])
    np.testing.assert_allclose(got.mass[at], mass, rtol=1e-5)
    np.testing.assert_allclose(got.out[at], out, rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 33, 255, 2500])
def test_trap_15_any_length(length):
  """Dense by the same code: as the reference, at any length."""
  case = cases.make([length], heads=(2, 1), page=64, log_threshold=-np.inf)
  testing.assert_matches_reference(
    _kernel(block=64), backends.compiled("reference"), case, rtol=1e-5
  )


def _peaked():
  return cases.make_peaked([512, 400], log_threshold=-7.5)


@pytest.mark.parametrize("splits", [1, 4])
def test_loads_little_more_than_two_passes(splits):
  """At most 1.15 times the rows; `model_scores_test` takes a model's scores."""
  case = _peaked()
  exact = backends.compiled("reference")(*case).rows
  got = _kernel(splits=splits)(*case).rows
  assert (got >= exact).all()
  assert got.sum() <= 1.15 * exact.sum()
  assert exact.sum() < 0.4 * 2 * 912  # of two key-value heads


def test_without_seeds_it_loads_more(monkeypatch):
  """Mutant: every program starts cold."""
  monkeypatch.setattr(
    triton_one_pass, "_count_seeds", lambda blocks, splits: 0 * blocks
  )
  case = _peaked()
  exact = backends.compiled("reference")(*case).rows
  assert _fresh(splits=4)(*case).rows.sum() > 1.15 * exact.sum()


def test_trap_01_values_outside_the_superset_are_never_read():
  case = _peaked()
  attend = _kernel(splits=4)
  unread = cases.unread(case, cases.kept_sets(attend, case))
  assert unread[2].mean() > 0.5
  testing.assert_never_reads(attend, case, unread)


def test_trap_01_loading_all_and_masking_later_is_caught(monkeypatch):
  load = triton_one_pass.plgpu.load
  case = _peaked()
  unread = cases.unread(case, cases.kept_sets(_kernel(splits=4), case))
  monkeypatch.setattr(
    triton_one_pass.plgpu, "load", lambda ref, mask=None, other=None: load(ref)
  )
  with pytest.raises(AssertionError, match=r"output \.out: \d+ of 128 elem"):
    testing.assert_never_reads(_fresh(splits=4), case, unread)


def test_seeds_counted_twice_are_caught(monkeypatch):
  """Mutant: a sum above the true one drops tokens that must be kept."""
  learn = triton_one_pass.Known.learn
  monkeypatch.setattr(
    triton_one_pass.Known,
    "learn",
    lambda self, s, live: learn(self, s, s > -1e29),
  )
  case = cases.make([70, 129], log_threshold=-4.5)
  exact = backends.compiled("reference")(*case)
  got = _fresh(splits=2)(*case)
  assert not np.allclose(got.lse, exact.lse, rtol=1e-5)
  with pytest.raises(AssertionError):
    _assert_superset(
      cases.kept_sets(_fresh(splits=2), case), cases.definition(case).kept
    )


def test_peaked_heads():
  """Scores in the thousands: rounding of the sum drops nothing."""
  case = cases.make([97, 33], gain=4000.0, log_threshold=-8.0)
  exact = [len(tokens) for tokens in cases.definition(case).kept]
  got = _kernel(splits=1)(*case)
  assert all(bool(jnp.isfinite(x).all()) for x in got)
  assert (got.kept.ravel() >= np.array(exact)).all()


def test_a_function_as_threshold_is_refused():
  case = cases.make([40])
  with pytest.raises(
    implementations.UnsupportedError, match="one pass has no scores"
  ):
    api.threshold_attention(
      *case[:5], lambda scores: scores.log_max, implementation="triton_one_pass"
    )
