"""The CPU path: equal to the reference, and it reads only what is kept."""

import functools
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from kernels_pallas import testing
from kernels_pallas.threshold_attention import native, reference, result, xla

_HALF = 0.5  # scale of all scores here


def make(lengths, *, heads=(4, 2), width=16, page=32, queries=1, spare=1):
  """A batch over scattered pages, with pages past every row's end."""
  rng = np.random.default_rng(0)
  batch, pages = len(lengths), -(-max(lengths) // page) + spare
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  pool = (batch * pages + 1, heads[1])
  table = rng.permutation(batch * pages).reshape(batch, pages)
  return (
    normal(batch, queries, heads[0], width),
    normal(*pool, width, page),
    normal(*pool, page, width),
    jnp.asarray(table, jnp.int32),
    jnp.asarray(lengths, jnp.int32),
  )


@functools.cache  # compiled once, whatever the threshold
def _jitted(attend, sinks, window, rule):
  @jax.jit
  def call(q, k_pages, v_pages, table, lengths, threshold):
    found = jnp.full(q.shape[:3], threshold, jnp.float32)
    return attend(
      *(q, k_pages, v_pages, table, lengths),
      log_threshold=rule or found,
      window_start=result.count_seen(lengths, q.shape[1]) - window,
      scale=_HALF,
      sinks=sinks,
    )

  return call


def run(attend, threshold, *, sinks=0, window=1):
  """Returns a jitted call of five arguments."""
  rule = threshold if callable(threshold) else None
  number = np.float32(0.0 if rule else threshold)
  call = _jitted(attend, sinks, window, rule)
  return lambda *args: call(*args, number)


WAYS = {"rows": xla.attend_rows, "pages": xla.attend_pages}
CASES = {
  "one page a row": dict(lengths=[70], page=96, spare=0),
  "ragged and idle": dict(lengths=[70, 33, 0, 1]),
  "queries": dict(lengths=[70, 2], queries=3),
  "long parts": dict(lengths=[700], page=512, width=8),
  "groups of three": dict(lengths=[65], heads=(9, 3), width=64, page=64),
}


@pytest.fixture(params=WAYS)
def attend(request):
  if request.param == "rows" and native.targets() is None:
    pytest.skip("no C++ compiler")
  return WAYS[request.param]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("threshold", [-4.0, -np.inf, np.inf])
def test_equals_the_reference(attend, case, threshold):
  args = make(**CASES[case])
  testing.assert_matches_reference(
    run(attend, threshold, sinks=2, window=3),
    run(reference.attend, threshold, sinks=2, window=3),
    args,
    rtol=1e-5,
  )


def test_thresholds_may_be_found_from_scores(attend):
  args = make([70, 33, 0], queries=2)

  near = lambda scores: scores.log_max - 2.25
  got = run(attend, near)(*args)
  testing.assert_matches_reference(
    run(attend, near), run(reference.attend, near), args, rtol=1e-5
  )
  assert (got.kept[0] > 1).all()
  assert (got.rows[0] < 70).all()


def test_a_rule_sees_no_score_past_a_query(attend):
  args = make([70, 33, 0], queries=2)

  def rule(scores):  # the share of slots with a score tells how many are seen
    seen = jnp.isfinite(scores.log_scores).sum(-1)
    wrong = seen != scores.seen[..., None]
    return jnp.where(wrong, jnp.inf, -jnp.inf)

  got = run(attend, rule)(*args)
  assert got.kept[..., 0].tolist() == [[69, 70], [32, 33], [0, 0]]


def test_bfloat16_equals_the_reference(attend):
  args = make([70, 33], queries=2)
  args = tuple(x.astype(jnp.bfloat16) for x in args[:3]) + args[3:]
  testing.assert_matches_reference(
    run(attend, -4.0), run(reference.attend, -4.0), args, rtol=4e-3
  )


def test_trap_09_what_is_kept_may_lie_far_below_the_rest(attend):
  """Weights relative to the log-sum-exp would all be equal, or zero."""
  q, *rest = make([15, 97, 0], queries=2)
  args = (100.0 * q, *rest)
  plain = run(reference.attend, np.inf, sinks=1, window=2)
  assert plain(*args).mass[:2].min() == 0  # in float32
  testing.assert_matches_reference(
    run(attend, np.inf, sinks=1, window=2), plain, args, rtol=1e-4
  )


def test_nan_in_a_key_that_is_read_shows(attend):
  q, k_pages, *rest = make([97, 33])
  k_pages = k_pages.at[rest[1][0, 1], :, :, 3].set(jnp.nan)
  args = (q, k_pages, *rest)
  got = run(attend, -4.0)(*args)
  assert jnp.isnan(got.lse[0]).all()
  assert jnp.isfinite(got.lse[1]).all()
  testing.assert_matches_reference(
    lambda *args: got, run(reference.attend, -4.0), args, rtol=1e-5
  )


def test_a_length_past_the_pages_stays_inside_them(attend):
  args = (*make([33], spare=0)[:4], jnp.array([100_000], jnp.int32))
  testing.assert_matches_reference(
    run(attend, -4.0), run(reference.attend, -4.0), args, rtol=1e-5
  )


def test_mass_is_at_most_one(attend):
  for way in (attend, None):
    call = run(way or reference.attend, -np.inf)
    assert call(*make([70, 33], queries=2)).mass.max() <= 1


def test_maps_over_a_batch_of_batches(attend):
  args = make([40, 33])
  call = run(attend, -4.0)
  stacked = jax.vmap(call)(*(jnp.stack([x, x]) for x in args))
  for ours, theirs in zip(stacked, call(*args), strict=True):
    np.testing.assert_allclose(ours[1], theirs, rtol=1e-5, atol=1e-6)


def test_values_that_nobody_keeps_reach_no_output(attend):
  args = make([70, 33], heads=(4, 2))
  q, k_pages, v_pages, table, lengths = (np.asarray(x) for x in args)
  keys, values = np.ones(k_pages.shape, bool), np.ones(v_pages.shape, bool)
  for b in range(2):
    at = [(table[b, j // 32], j % 32) for j in range(lengths[b])]
    for page, slot in at:
      keys[page, :, :, slot] = False
    for h in range(4):
      scores = np.array([q[b, 0, h] @ k_pages[p, h // 2, :, t] for p, t in at])
      scores = np.float64(_HALF) * scores
      keep = scores >= np.log(np.exp(scores).sum()) - 3.0
      keep[[-1, scores.argmax()]] = True
      for j in np.flatnonzero(keep):
        page, slot = at[j]
        values[page, h // 2, slot] = False
  call = run(attend, -3.0)
  done = call(*args)
  assert int(done.rows.sum()) == (~values[..., 0]).sum() < 2 * lengths.sum()
  testing.assert_never_reads(call, args, (None, keys, values, None, None))


def test_a_step_is_traced_once_whatever_it_keeps(attend):
  args, traces = make([70, 33]), []

  @jax.jit
  def call(threshold, *args):
    traces.append(None)
    return attend(
      *args,
      log_threshold=threshold,
      window_start=args[4][:, None] - 1,
      scale=_HALF,
      sinks=0,
    )

  kept = [
    int(call(jnp.full((2, 1, 4), x), *args).rows.sum()) for x in (-9.0, -4.0)
  ]
  assert kept[0] > kept[1]
  assert len(traces) == 1


def test_scans_with_a_donated_pool(attend):
  args = make([70, 33])
  call = functools.partial(
    attend, window_start=args[4][:, None] - 1, scale=_HALF, sinks=0
  )

  @functools.partial(jax.jit, donate_argnums=0)
  def steps(values, thresholds):
    def step(values, threshold):
      done = call(*(*args[:2], values, *args[3:]), log_threshold=threshold)
      return values, done.rows

    return jax.lax.scan(step, values, thresholds)

  thresholds = jnp.array([-np.inf, -4.0, np.inf], jnp.float32)
  thresholds = jnp.broadcast_to(thresholds[:, None, None, None], (3, 2, 1, 4))
  _, rows = steps(args[2].copy(), thresholds)
  assert rows[0].tolist() == [[70, 70], [33, 33]]
  assert rows[2].tolist() == [[1, 1], [1, 1]]
  assert (rows[1] < rows[0]).all()
  assert (rows[1] > rows[2]).all()


def _lowered(args):
  threshold = jnp.full(args[0].shape[:3], -4.0)
  call = functools.partial(xla.attend, scale=_HALF, sinks=0)
  return jax.jit(call).lower(*args, threshold, args[4][:, None] - 1).as_text()


def test_the_compiled_loop_runs_where_there_is_a_compiler(monkeypatch, caplog):
  if native.targets() is None:
    pytest.skip("no C++ compiler")
  monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
  with caplog.at_level("INFO", logger="absl"):
    native.targets.__wrapped__()
  assert "skips value rows on CPU" in caplog.text
  text = _lowered(make([33]))
  assert text.count("@dectet_threshold") == 2
  assert "while" not in text


@pytest.mark.parametrize(("width", "compiler"), [(6, True), (16, False)])
def test_odd_widths_and_bare_machines_go_page_by_page(
  monkeypatch, caplog, width, compiler
):
  monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
  monkeypatch.setattr(logging, "_log_counter_per_token", {})  # it comes once
  if not compiler:
    monkeypatch.setattr(native, "targets", lambda: None)
  with caplog.at_level("INFO", logger="absl"):
    text = _lowered(make([33], width=width))
  assert (
    "reads whole pages: got float32 of width 6" in caplog.text
  ) == compiler
  assert "dectet_threshold" not in text
  assert "while" in text


@pytest.mark.parametrize(
  ("compiler", "reason"),
  [("no-such-compiler", "got no C++"), ("false", "fails")],
)
def test_no_compiler_is_one_line_in_the_log(
  monkeypatch, caplog, tmp_path, compiler, reason
):
  monkeypatch.setenv("CXX", compiler)
  monkeypatch.setenv("DECTET_CACHE_DIR", str(tmp_path))
  assert native.targets.__wrapped__() is None
  assert reason in caplog.text
  assert caplog.text.count("\n") == 1


# Keys are one-hot: one run of 512 tokens in four scores 8, the others 0. Memory
# pages that hold only values of the others are forbidden, so that whoever reads
# one is killed.
_GUARDED = textwrap.dedent("""
  import ctypes, mmap, os, sys
  import jax, jax.numpy as jnp, numpy as np
  from kernels_pallas.threshold_attention import xla
  page, width, tokens, run = mmap.PAGESIZE, 16, 8192, 512
  kept = np.arange(tokens) // run % 4 == 3
  keys = np.zeros((1, 1, width, tokens), np.float32)
  keys[0, 0, 0] = 8.0 * kept
  values = jnp.ones((1, 1, tokens, width))
  one = jnp.ones((1,), jnp.int32)
  args = (jnp.ones((1, 1, 1, width)), jnp.asarray(keys), values,
    0 * one[:, None], tokens * one, jnp.full((1, 1, 1), float(sys.argv[1])))
  call = jax.jit(lambda *a: xla.attend_rows(
    *a[:-1], log_threshold=a[-1], window_start=tokens * one[:, None],
    scale=1.0, sinks=0)).lower(*args).compile()
  libc, start = ctypes.CDLL(None), values.unsafe_buffer_pointer()
  forbidden = 0
  for first in range(-(-start // page) * page, start + values.nbytes, page):
    rows = (first - start) // (4 * width), (first + page - start) // (4 * width)
    if rows[1] < tokens and not kept[rows[0] : rows[1] + 1].any():
      at = ctypes.c_void_p(first)
      forbidden += libc.mprotect(at, ctypes.c_size_t(page), 0) == 0
  done = call(*args)
  least = round(float(done.out.min()), 5)
  print(forbidden > 40, int(done.rows[0, 0]), least, flush=True)
  os._exit(0)
""")


@pytest.mark.parametrize(
  ("threshold", "survives"), [("-8", True), ("-inf", False)]
)
def test_memory_of_skipped_rows_is_not_touched(threshold, survives):
  if native.targets() is None or not sys.platform.startswith("linux"):
    pytest.skip("needs a C++ compiler and Linux")
  done = subprocess.run(
    [sys.executable, "-c", _GUARDED, threshold], capture_output=True, text=True
  )
  if survives:
    assert (done.returncode, done.stdout) == (0, "True 2048 1.0\n"), done.stderr
  else:  # the same call, but for a threshold that keeps all: it is killed
    assert done.returncode == -11, done.stderr
