"""What `bench serve` times is what was asked for, and its sums are right."""

import dataclasses
import itertools
import json
from typing import Any

import pytest

from experiments.tools import (
  bench_serve,
  bench_serve_steps,
  rivals,
  serve_latency,
  serve_trace,
)
from experiments.tools.serve_trace import Item
from research.data import artifacts
from research.inference import engine as engine_lib
from research.inference.request import Timing
from research.telemetry import peer
from research.transformer.checkpoints import model
from tests import tiny as tiny_lib

_TRACE = [Item([1, 2, 3], 4), Item([5] * 20, 1), Item([7], 9), Item([8, 9], 2)]


@pytest.fixture(scope="module")
def tiny():
  config = dataclasses.replace(tiny_lib.CONFIG, context_length=256)
  return model.initialise(config, seed=0)


@pytest.fixture(scope="module")
def engine(tiny):
  settings = engine_lib.Settings(
    num_pages=48, page_size=8, rows=(4,), pieces=(16,), block=8
  )
  return engine_lib.Engine(tiny, settings)


def test_a_trace_is_served_whole_with_so_many_in_flight(engine, monkeypatch):
  flying, most = 0, 0
  add, step = engine.add, engine.step

  def counted_add(request):
    nonlocal flying, most
    flying += 1
    most = max(most, flying)
    return add(request)

  def counted_step():
    nonlocal flying
    events = step()
    flying -= sum(event.completion is not None for event in events)
    return events

  monkeypatch.setattr(engine, "add", counted_add)
  monkeypatch.setattr(engine, "step", counted_step)
  for concurrency in (1, 3):
    flying = most = 0
    seconds, timings = bench_serve.ours(engine)(_TRACE, concurrency)
    assert most == concurrency
    assert sorted(len(t.tokens) for t in timings) == [1, 2, 4, 9]
    assert all(t.e2e_s <= seconds for t in timings)


def test_rows_carry_latencies_and_dead_rivals_do_not_matter(engine):
  def dead(request):
    raise peer.PeerUnavailableError("not installed")

  requests = [
    {"arrived": 1.0, "times": [1.5 + i for i in range(item.tokens)]}
    for item in _TRACE
  ]
  seconds = itertools.chain([999.0], itertools.repeat(32.0))  # it warms up
  call = lambda request: peer.Reply(next(seconds), {"requests": requests})
  servers = {
    "dectet": bench_serve.ours(engine),
    "rival": bench_serve.theirs(call),
    "dead": bench_serve.theirs(dead),
  }
  rows = bench_serve.compare(servers, _TRACE, 2, rounds=2)
  assert [row.name for row in rows] == list(servers)
  assert rows[2].verdict == "unavailable"
  assert rows[1].meta["tokens/s"] == 0.5  # 16 tokens in 32 s, twice
  assert rows[1].meta["TTFT ms"] == [500, 500, 500]
  assert rows[0].meta["tokens/s"] > 0


def test_a_server_that_draws_less_is_found_out():
  short = lambda trace, concurrency: (1.0, [Timing(0.0, None, (1.0,), 1.0)])
  with pytest.raises(RuntimeError, match="got 1 answers of 1 tokens, expected"):
    bench_serve.compare({"short": short}, _TRACE, 1, rounds=1)


def test_percentiles_and_goodput_of_numbers_made_by_hand():
  waits = [0.1 * i for i in range(1, 12)]  # 0.1 to 1.1 s
  timings = [
    Timing(5.0, None, (5.0 + wait, 5.1 + wait, 5.3 + wait), 6.0 + wait)
    for wait in waits
  ]
  bounds = serve_latency.Bounds(ttft_s=0.55, itl_s=0.16)
  report = serve_latency.report(timings, 2.0, bounds)
  assert report == {
    "TTFT ms": [600.0, 1000.0, 1090.0],
    "ITL ms": pytest.approx([150.0, 200.0, 200.0]),
    "E2E ms": [1600.0, 2000.0, 2090.0],
    "tokens/s": 16.5,
    "good requests/s": 2.5,
    "good share": 0.45,
  }
  strict = bounds._replace(itl_s=0.14)  # below the mean of 0.1 and 0.2
  assert serve_latency.report(timings, 2.0, strict)["good share"] == 0


def test_answers_of_one_token_have_no_gap_to_exceed():
  report = serve_latency.report(
    [Timing(0.0, None, (0.5,), 0.5)], 1.0, serve_latency.Bounds(1.0, 0.0)
  )
  assert report["good share"] == 1
  assert report["ITL ms"] == [0, 0, 0]


def test_requests_are_drawn_from_what_fits(tmp_path, monkeypatch):
  said = lambda who, text: {"from": who, "value": text}
  pairs = [("a" * 5, "b" * 7), ("c" * 3, "d" * 9), ("e" * 50, "f" * 60)]
  talks = [[said("human", a), said("gpt", b)] for a, b in pairs]
  talks += [[said("gpt", "x" * 9), said("human", "y" * 9)], []]
  file = tmp_path / "talks.json"
  whole = json.dumps([{"conversations": turns} for turns in talks])
  file.write_text(whole[:-1] + ', {"conversations": [{"fro')
  monkeypatch.setattr(artifacts, "fetch", lambda name: file)

  class Letters:
    def encode(self, text):
      return [ord(letter) for letter in text]

  words: Any = Letters()
  draw = lambda count: serve_trace.share_gpt(
    words, count=count, context=100, scale=2, seed=0
  )
  assert draw(1) == [Item([ord("a")] * 3, 4)]
  with pytest.raises(ValueError, match="got 1 exchanges that fit, expected 2"):
    draw(2)


def test_a_batch_steps_together_and_leaves_nothing(engine):
  timed = bench_serve_steps.steps(engine, bench_serve_steps.prompts(3, 9))
  before = engine.steps
  assert timed().seconds > 0
  assert engine.steps >= before + bench_serve_steps._STEPS
  assert not engine.has_work


def test_a_row_verifies_as_many_guesses_in_every_timed_step(tiny):
  engine = bench_serve_steps.guessing(tiny)
  bench_serve_steps.steps(engine, bench_serve_steps.prompts(1, 9))()
  assert engine.drafted >= 16 * bench_serve_steps._STEPS
  assert engine.accepted < engine.drafted


def test_one_of_two_prefixes_is_cached(engine):
  calls = bench_serve_steps.first_tokens(engine, 32)
  found = {}
  for _ in range(2):
    found = {name: call().values["cached"] for name, call in calls.items()}
  assert found == {"cached": 32, "cold": 0}


def test_byte_bound_is_that_of_weights_and_caches(tiny):
  row = 10 * 2 * 2 * 2 * 8 * 4  # tokens, k and v, layers, heads, width, bytes
  weights = tiny.bytes_per_step
  expected = (weights + 3 * row) / (weights + row)
  assert bench_serve_steps.byte_bound(tiny, 3, 10) == pytest.approx(expected)


@pytest.mark.peers
def test_rivals_draw_together_what_they_draw_alone(smollm2):
  request = {
    "op": "serve",
    "prompts": [[100 + i] * (5 * i + 1) for i in range(4)],
    "counts": [3, 9, 1, 5],
  }
  chosen = rivals.serving(smollm2, context=64, rows=3, alike=False)
  with rivals.started(chosen) as calls:
    for call in calls.values():
      alone, together = (
        call(request | {"concurrency": n}).values["requests"] for n in (1, 3)
      )
      drawn = lambda found: sorted(one["drawn"] for one in found)
      assert drawn(together) == drawn(alone)
      assert sorted(map(len, drawn(alone))) == [1, 3, 5, 9]
