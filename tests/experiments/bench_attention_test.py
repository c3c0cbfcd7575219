"""The attention suites time what their rows say."""

import time

import numpy as np
import pytest

from experiments import policies
from experiments.tools import bench_attention, bench_selection
from kernels_pallas import gpucc
from kernels_pallas.threshold_attention import xla
from research.cluster import probe
from research.telemetry import bench, peer

_SHAPE = bench_attention.Shape(heads=4, kv_heads=2, width=16)
_TOKENS = 512


@pytest.fixture(scope="module")
def inputs():
  return bench_attention.make_inputs(_SHAPE, _TOKENS)


def softmax_attention(inputs):
  """Dense attention in float64, token by token of the table."""
  q, k, v = (np.asarray(x, np.float64) for x in (inputs.q[0, 0], *inputs.pages))
  pages = np.asarray(inputs.table[0])
  out = np.zeros(q.shape)
  for h in range(_SHAPE.heads):
    keys = np.concatenate([k[p, h // 2] for p in pages], axis=-1)
    values = np.concatenate([v[p, h // 2] for p in pages], axis=0)
    weights = np.exp(q[h] @ keys / np.sqrt(_SHAPE.width))
    out[h] = weights @ values / weights.sum()
  return out


def test_dense_candidates_all_give_the_definition(inputs):
  ours = bench_attention._ours(inputs)
  calls = bench_attention._jax_rival(inputs) | {
    name: ours[name] for name in ("dectet, dense", "dectet, 100% of rows")
  }
  for name, call in calls.items():
    got = np.asarray(call())[0, 0]
    np.testing.assert_allclose(
      got, softmax_attention(inputs), atol=1e-5, err_msg=name
    )


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_share_is_that_of_value_rows_after_the_union(inputs, share):
  done = xla.attend(
    inputs.q,
    inputs.pages.k,
    inputs.pages.v,
    inputs.table,
    inputs.lengths,
    bench_attention.threshold_for(inputs, share),
    inputs.lengths[:, None] - 1,
    scale=_SHAPE.width**-0.5,
    sinks=0,
  )
  rows = np.asarray(done.rows) / _TOKENS
  np.testing.assert_allclose(rows, share, atol=0.01)


def test_the_limit_grows_with_its_bytes(monkeypatch):
  monkeypatch.setattr(probe, "memory_bandwidth", lambda repeats: 100.0)
  assert bench_attention._limit(50.0)().seconds == 0.5


def test_torch_is_given_the_shape_and_its_own_time_counts(monkeypatch):
  calls = []

  class Worker(peer.PeerProcess):
    def call(self, request):
      calls.append(dict(request))
      return peer.Reply(0.5, {})

  monkeypatch.setattr(
    bench_attention.rivals, "worker", lambda name: Worker([name])
  )
  with bench_attention._torch(_SHAPE, _TOKENS) as ways:
    assert [way().seconds for way in ways.values()] == [0.5, 0.5]
  assert calls[0] == {
    **{"op": "load", "heads": 4, "kv_heads": 2, "width": 16},
    **{"tokens": _TOKENS, "threads": bench_attention.rivals.THREADS},
  }
  assert [call["op"] for call in calls[1:]] == ["sdpa", "products"]


def test_all_ways_to_select_keep_the_same_quarter():
  made = bench_selection.make_scores(2, _TOKENS)
  kept = {
    name: np.asarray(call()).sum(-1)
    for name, call in bench_selection.masks(*made).items()
  }
  ranked = ("filter, threshold known", "counting quantile", "jax.lax.top_k")
  for name in ranked:
    np.testing.assert_allclose(kept[name], _TOKENS / 4, atol=1, err_msg=name)
  # Top mass is given the mean over heads of the mass that a quarter holds.
  np.testing.assert_allclose(kept["top mass, bisection"].mean(), 128, atol=8)


@pytest.mark.parametrize("text", bench_selection.POLICIES)
def test_policies_that_are_timed_need_no_scores(text):
  assert policies.parse(text).policy.reads in ("step", "maximum")


def test_a_policy_step_is_a_part_of_its_call():
  policy = policies.parse("power_law:target=0.25").policy
  call = bench_selection.policy_steps(policy, 4, 64)
  start = time.perf_counter()
  step = call().seconds
  whole = time.perf_counter() - start
  assert 0 < step * bench_selection._STEPS <= whole


def test_ratios_stay_to_the_names_given():
  rows = bench.summarise(
    {name: np.ones(5) for name in "abc"}, np.full(5, 2.0), unavailable={}
  )
  kept = bench_attention.against(rows, ["a"])
  assert [list(row.ratio_to) for row in kept] == [[], ["a"], ["a"]]


def test_top_k_compiles_to_a_sort_and_a_known_threshold_to_a_compare():
  """On a GPU that is not there; the filter needs no memory besides."""
  if not gpucc.find():
    pytest.skip("needs the GPU compiler: make gpucc")
  calls = bench_selection.masks(*bench_selection.make_scores(2, 1_024))
  names = ("filter, threshold known", "jax.lax.top_k")
  rows = bench_selection.compiled({name: calls[name] for name in names})
  assert [row.kind for row in rows] == ["compiled"] * 2
  assert [row.meta["sort"] for row in rows] == [0, 1]
  assert rows[0].median == 0
  assert rows[1].median
