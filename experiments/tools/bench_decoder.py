"""The decoder's suites of `experiments.tools.bench`."""

import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments import models
from experiments.tools import rivals
from research.cluster import probe
from research.inference import generation, sampling
from research.telemetry import bench, memory, peer

_MODEL = "smollm2-135m"
_STEPS = 16  # decode steps that one timed call takes
_CONTEXT = 128  # tokens in the cache when they start

Suite = Iterator[tuple[str, list[bench.BenchResult]]]


def decode(*, rounds: int) -> Suite:
  """Times decode steps at batch 1 and 8.

  Args:
    rounds: timed rounds.

  Yields:
    A title and its rows, in seconds a step.
  """
  model, _ = models.load(_MODEL)
  generator = generation.Generator(model)
  for batch in (1, 8):
    prompts = [list(range(100, 100 + _CONTEXT))] * batch
    chosen = rivals.float32(model, context=2 * _CONTEXT, rows=batch)
    with rivals.started(chosen) as peers:
      candidates: dict[str, Callable[[], object]] = {
        "dectet": _our_steps(generator, prompts)
      }
      for name, worker in peers.items():
        candidates[name] = rivals.steps(worker, prompts, _STEPS)
      candidates["limit: weights read once"] = lambda: peer.Reply(
        _STEPS * model.bytes_per_step / probe.memory_bandwidth(repeats=2), {}
      )
      rows = bench.interleave(
        candidates,
        rounds=rounds,
        work=_STEPS,
        unit="s/step",
        command="python -m experiments.tools.bench --suite=decode",
      )
    yield f"SmolLM2 decode, batch {batch}, {_CONTEXT} tokens cached", rows


def prefill(*, rounds: int) -> Suite:
  """Times a prompt of 512 tokens.

  Args:
    rounds: timed rounds.

  Yields:
    A title and its rows, in seconds.
  """
  model, _ = models.load(_MODEL)
  generator = generation.Generator(model)
  tokens = list(range(100, 612))
  config = model.config
  embedding = config.vocab_size * config.embed_dim
  operations = 2 * (config.num_parameters - embedding) * len(tokens)
  settings = [sampling.Sampling()]
  ours = lambda: list(generator.stream([tokens], settings, max_tokens=1))
  chosen = rivals.float32(model, context=len(tokens), rows=1)
  with rivals.started(chosen) as peers:
    candidates: dict[str, Callable[[], object]] = {"dectet": ours}
    for name, worker in peers.items():
      candidates[name] = lambda worker=worker: worker(
        {"op": "prefill", "tokens": [tokens]}
      )
    candidates["limit: blocks at a large product's rate"] = _large_product(
      operations
    )
    rows = bench.interleave(
      candidates,
      rounds=rounds,
      command="python -m experiments.tools.bench --suite=prefill",
    )
  yield "SmolLM2 prefill, 512 tokens", rows


def memory_report() -> dict[str, float]:
  """Measures peak memory and compilations.

  Returns:
    Peak resident memory above what the imports took, as a multiple of the
    weights' bytes, and steps compiled by a second generation.
  """
  jnp.zeros(()).block_until_ready()  # the backend's start belongs to imports
  base = memory.rss_bytes()
  memory.reset_peak()
  model, _ = models.load(_MODEL)
  generator = generation.Generator(model)
  prompt, settings = list(range(100, 132)), [sampling.Sampling()]
  generate = lambda: list(generator.stream([prompt], settings, max_tokens=32))
  generate()
  compiled = generator.num_compiled
  generate()
  peak = memory.peak_rss_bytes() - base
  return {
    "peak memory over weights": peak / model.num_bytes,
    "steps compiled after the first generation": (
      generator.num_compiled - compiled
    ),
  }


def _our_steps(
  generator: generation.Generator, prompts: list[list[int]]
) -> Callable[[], jax.Array]:
  """Returns a call that decodes from the same cache each time."""
  batch = len(prompts)
  pool, table = generator.make_pool(batch, _CONTEXT + _STEPS)
  rows = sampling.rows([sampling.Sampling()] * batch)
  lengths = jnp.full(batch, _CONTEXT, jnp.int32)
  state = generator.model.state
  first, pool = generator.prefill(
    state, jnp.asarray(prompts, jnp.int32), lengths, table, rows, pool=pool
  )
  kept = [pool]

  def steps():
    token, positions = first, lengths
    for _ in range(_STEPS):
      token, kept[0] = generator.decode(
        state, token, positions, table, rows, pool=kept[0]
      )
      np.asarray(token)  # as a streaming user would
      positions = positions + 1
    return token

  return steps


def _large_product(
  operations: int, size: int = 2048
) -> Callable[[], peer.Reply]:
  """Returns a call that says how long `operations` take at the best rate."""
  product = jax.jit(jnp.matmul)
  x = jnp.ones((size, size))

  def timed():
    seconds = []
    for _ in range(3):
      start = time.perf_counter()
      product(x, x).block_until_ready()
      seconds.append(time.perf_counter() - start)
    return peer.Reply(min(seconds) * operations / (2 * size**3), {})

  return timed
