"""The engine's steps with all requests alike: rows, guesses, host, prefix."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax.numpy as jnp

from experiments.tools import rivals
from research.inference import engine as engine_lib
from research.inference import speculation
from research.inference.request import Request
from research.telemetry import bench, peer
from research.transformer import checkpoints

_STEPS = 16  # that one timed call takes
_GUESSES = 16  # that a row verifies at once
_COMMAND = "python -m experiments.tools.bench --suite=serve"

Suite = Iterator[tuple[str, list[bench.BenchResult]]]


def one_batch(model: checkpoints.Model, *, rounds: int) -> Suite:
  """Times decode steps of requests that start together.

  Args:
    model: SmolLM2.
    rounds: timed rounds.

  Yields:
    A title and its rows: steps of 1, 8 and 32 requests beside rivals, the cost
    of rows and of guesses, the host's part, and the first token behind a shared
    prefix.
  """
  engine = engine_lib.Engine(model, engine_lib.Settings(num_pages=360))
  engine.warm_up()
  for rows in (1, 8, 32):
    yield (
      f"one batch of {rows}: decode step, 128 tokens cached",
      _beside_rivals(model, engine, rows, rounds=rounds),
    )
  for cached in (128, 1024):
    yield (
      f"rows of a batch: decode step, {cached:,} tokens cached, by bytes "
      f"{byte_bound(model, 16, cached):.2f} times one row",
      _in_turns(
        {
          f"{rows} rows": steps(engine, prompts(rows, cached))
          for rows in (16, 1)
        },
        rounds=rounds,
      ),
    )
  yield (
    f"a row that verifies {_GUESSES} guesses: step, 128 tokens cached",
    _in_turns(
      {
        f"{_GUESSES} guesses": steps(guessing(model), prompts(1, 128)),
        "none": steps(engine, prompts(1, 128)),
      },
      rounds=rounds,
    ),
  )
  yield (
    "host: processor time of its thread in steps of 32 rows (draft, schedule, "
    "pack, dispatch, collect)",
    _in_turns({"32 rows": host(engine, prompts(32, 128))}, rounds=rounds),
  )
  yield (
    "first token behind a prefix of 1,024 tokens",
    bench.interleave(
      first_tokens(engine, 1024), rounds=rounds, command=_COMMAND
    ),
  )


def prompts(rows: int, length: int, first: int = 100) -> list[list[int]]:
  """Makes prompts of equal lengths that share no page.

  Args:
    rows: how many.
    length: of each, in tokens.
    first: token of the first one, which others continue from.
  """
  return [
    [first + row, *range(first + row, first + row + length - 1)]
    for row in range(rows)
  ]


def steps(
  engine: engine_lib.Engine, asked: list[list[int]]
) -> Callable[[], peer.Reply]:
  """Returns a call that times steps in which all requests draw."""

  def timed():
    with_all = _begin(engine, asked)
    start = time.perf_counter()
    for _ in range(_STEPS):
      engine.step()
    seconds = time.perf_counter() - start
    _end(engine, with_all)
    return peer.Reply(seconds, {})

  return timed


def guessing(model: checkpoints.Model) -> engine_lib.Engine:
  """Makes an engine whose rows always verify guesses; few will be right."""
  settings = engine_lib.Settings(
    num_pages=16, rows=(1,), drafts=(_GUESSES,), prefix_cache=False
  )
  return engine_lib.Engine(model, settings, drafter=_Guesser())


class _Guesser:
  def propose(
    self, prefixes: Sequence[speculation.Prefix], most: int
  ) -> Sequence[Sequence[int]]:
    return [range(most)] * len(prefixes)


def host(
  engine: engine_lib.Engine, asked: list[list[int]]
) -> Callable[[], peer.Reply]:
  """Returns a call that times what the host does in steps.

  In processor time of its thread: the device's threads want the same cores.
  """

  def timed():
    with_all = _begin(engine, asked)
    start = time.thread_time()
    for _ in range(_STEPS):
      engine.step()
    seconds = time.thread_time() - start
    _end(engine, with_all)
    return peer.Reply(seconds, {})

  return timed


def first_tokens(
  engine: engine_lib.Engine, length: int
) -> dict[str, Callable[[], peer.Reply]]:
  """Returns calls that time a first token, by whether its prefix is cached.

  Args:
    engine: that keeps prefixes.
    length: of the prefix, in tokens; 16 more follow it, which are new.
  """
  numbers = itertools.count(200)  # prompts of other calls begin below it
  (shared,) = prompts(1, length)

  def ttft(prefix: list[int]) -> peer.Reply:
    new = prompts(1, 16, first=next(numbers))[0]
    (answer,) = engine.generate([Request([*prefix, *new], max_tokens=1)])
    seconds = answer.timing.ttft_s
    assert seconds is not None  # it drew a token
    return peer.Reply(seconds, {"cached": answer.cached_tokens})

  return {
    "cached": lambda: ttft(shared),
    "cold": lambda: ttft(prompts(1, length, first=next(numbers))[0]),
  }


def byte_bound(model: checkpoints.Model, rows: int, cached: int) -> float:
  """Returns how many times the bytes of one row's step a batch's step reads.

  Args:
    model: gives weights, and the size of keys and values.
    rows: of the batch.
    cached: tokens of each row.
  """
  config = model.config
  width = 2 * config.num_layers * config.num_kv_heads * config.head_dim
  row = cached * width * jnp.dtype(config.dtype).itemsize
  return (model.bytes_per_step + rows * row) / (model.bytes_per_step + row)


def _beside_rivals(
  model: checkpoints.Model, engine: engine_lib.Engine, rows: int, *, rounds: int
) -> list[bench.BenchResult]:
  asked = prompts(rows, 128)
  chosen = rivals.serving(model, context=256, rows=rows, alike=True)
  with rivals.started(chosen) as calls:
    theirs = {
      name: rivals.steps(call, asked, _STEPS) for name, call in calls.items()
    }
    return _in_turns({"dectet": steps(engine, asked)} | theirs, rounds=rounds)


def _in_turns(
  calls: Mapping[str, Callable[[], peer.Reply]], *, rounds: int
) -> list[bench.BenchResult]:
  return bench.interleave(
    calls, rounds=rounds, work=_STEPS, unit="s/step", command=_COMMAND
  )


def _begin(engine: engine_lib.Engine, asked: list[list[int]]) -> list[int]:
  """Reads prompts until all requests draw; returns their numbers."""
  numbers = [
    engine.add(Request(prompt, max_tokens=8 * _STEPS, ignore_eos=True))
    for prompt in asked
  ]
  missing = set(numbers)
  while missing:
    missing -= {event.number for event in engine.step()}
  return numbers


def _end(engine: engine_lib.Engine, numbers: list[int]) -> None:
  for number in numbers:
    engine.abort(number)
  while engine.has_work:
    engine.step()
