"""The engine's suite of `experiments.tools.bench`, beside its rivals."""

import collections
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

from experiments import models
from experiments.tools import (
  bench_serve_steps,
  rivals,
  serve_latency,
  serve_trace,
)
from experiments.tools.serve_trace import Item
from research.inference import engine as engine_lib
from research.inference.request import Completion, Finish, Request, Timing
from research.telemetry import bench, peer
from research.transformer import checkpoints

_MODEL = "smollm2-135m"
_CONTEXT, _SCALE = 1024, 4
_REQUESTS = {1: 4, 8: 16, 32: 48}  # by how many are in flight
_BOUNDS = serve_latency.Bounds()

Server = Callable[[Sequence[Item], int], tuple[float, list[Timing]]]


def serve(*, rounds: int) -> bench_serve_steps.Suite:
  """Times one batch, and then a trace of requests.

  Args:
    rounds: timed rounds.

  Yields:
    A title and its rows.
  """
  model, words = models.load(_MODEL)
  yield from bench_serve_steps.one_batch(model, rounds=rounds)
  trace = serve_trace.share_gpt(
    words, count=max(_REQUESTS.values()), context=_CONTEXT, scale=_SCALE, seed=0
  )
  for concurrency, count in _REQUESTS.items():
    rows = _offline(model, trace[:count], concurrency, rounds=rounds)
    title = (
      f"ShareGPT with {concurrency} in flight, {count} requests: "
      f"{sum(len(item.prompt) for item in trace[:count])} tokens read and "
      f"{sum(item.tokens for item in trace[:count])} drawn (lengths over "
      f"{_SCALE}); good is TTFT <= {_BOUNDS.ttft_s:g} s and mean ITL <= "
      f"{_BOUNDS.itl_s:g} s"
    )
    yield title, rows


def compare(
  servers: Mapping[str, Server],
  trace: Sequence[Item],
  concurrency: int,
  *,
  rounds: int,
) -> list[bench.BenchResult]:
  """Times servers on the same requests, in turns.

  Args:
    servers: by name: from requests, and how many may be in flight, to seconds
      and the timings of all requests.
    trace: the requests.
    concurrency: how many are in flight.
    rounds: timed rounds.

  Returns:
    Rows in seconds a drawn token, with latencies over all timed rounds.
  """
  served: dict[str, list[tuple[float, list[Timing]]]] = {}

  def timed(name: str) -> peer.Reply:
    seconds, timings = servers[name](trace, concurrency)
    _check(name, trace, timings)
    served.setdefault(name, []).append((seconds, timings))
    return peer.Reply(seconds, {})

  rows = bench.interleave(
    {name: lambda name=name: timed(name) for name in servers},
    rounds=rounds,
    work=float(sum(item.tokens for item in trace)),
    unit="s/token",
    command="python -m experiments.tools.bench --suite=serve",
  )
  return [
    row
    if row.verdict == "unavailable"
    else dataclasses.replace(
      row, meta={**row.meta, **_latencies(served[row.name])}
    )
    for row in rows
  ]


def ours(engine: engine_lib.Engine) -> Server:
  """Returns how to serve with an engine."""

  def run(trace: Sequence[Item], concurrency: int):
    start = time.perf_counter()
    waiting, done = collections.deque(trace), []
    flying = 0
    while waiting or flying:
      while waiting and flying < concurrency:
        item = waiting.popleft()
        engine.add(
          Request(item.prompt, max_tokens=item.tokens, ignore_eos=True)
        )
        flying += 1
      ended = [event.completion for event in engine.step() if event.completion]
      flying -= len(ended)
      done += ended
    return time.perf_counter() - start, [_timing(answer) for answer in done]

  return run


def theirs(call: rivals.Call) -> Server:
  """Returns how to serve with a rival's worker."""

  def run(trace: Sequence[Item], concurrency: int):
    reply = call(
      {
        "op": "serve",
        "prompts": [item.prompt for item in trace],
        "counts": [item.tokens for item in trace],
        "concurrency": concurrency,
      }
    )
    timings = [
      Timing(one["arrived"], None, tuple(one["times"]), one["times"][-1])
      for one in reply.values["requests"]
    ]
    return reply.seconds, timings

  return run


def _offline(
  model: checkpoints.Model,
  trace: Sequence[Item],
  concurrency: int,
  *,
  rounds: int,
) -> list[bench.BenchResult]:
  """Serves a trace by all engines; nobody keeps prefixes between rounds."""
  longest = max(len(item.prompt) + item.tokens for item in trace)
  settings = engine_lib.Settings(
    num_pages=concurrency * -(-longest // engine_lib.Settings.page_size),
    rows=tuple(2**i for i in range(concurrency.bit_length())),
    prefix_cache=False,
  )
  engine = engine_lib.Engine(model, settings)
  engine.warm_up()
  servers = {"dectet": ours(engine)}
  chosen = rivals.serving(model, context=longest, rows=concurrency, alike=False)
  with rivals.started(chosen) as calls:
    servers |= {name: theirs(call) for name, call in calls.items()}
    return compare(servers, trace, concurrency, rounds=rounds)


def _timing(answer: Completion) -> Timing:
  if answer.finish is not Finish.LENGTH:
    raise RuntimeError(f"a request ended by {answer.finish}: {answer.error}")
  return answer.timing


def _check(name: str, trace: Sequence[Item], timings: list[Timing]) -> None:
  """Raises unless a server drew exactly what was asked for."""
  wanted = sorted(item.tokens for item in trace)
  drawn = sorted(len(timing.tokens) for timing in timings)
  if drawn != wanted:
    raise RuntimeError(
      f"{name} served something else: got {len(drawn)} answers of {sum(drawn)} "
      f"tokens, expected {len(wanted)} of {sum(wanted)}"
    )


def _latencies(served: list[tuple[float, list[Timing]]]) -> dict:
  rounds = served[1:]  # the first one warmed up
  seconds = sum(seconds for seconds, _ in rounds)
  timings = [timing for _, timings in rounds for timing in timings]
  return serve_latency.report(timings, seconds, _BOUNDS)
