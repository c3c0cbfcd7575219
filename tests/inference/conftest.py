"""Small models, an engine whose compiled steps are shared, and its rivals."""

import copy
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from research.inference import engine as engine_lib
from research.inference import generation, parallel, sampling, speculation
from research.transformer import checkpoints
from research.transformer import config as config_lib
from research.transformer.checkpoints import model
from tests import tiny as tiny_lib
from tests.inference import hash_device

GREEDY = sampling.Sampling()


@pytest.fixture(scope="session")
def small() -> checkpoints.Model:
  """Two layers of SmolLM2's widths with a small vocabulary."""
  config = config_lib.DecoderConfig(
    vocab_size=2048,
    embed_dim=576,
    num_layers=2,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    mlp_dim=1536,
    context_length=256,
    tie_embeddings=True,
  )
  return model.initialise(config, seed=0)


@pytest.fixture(scope="session")
def tiny() -> checkpoints.Model:
  return tiny_lib.chaotic()


@pytest.fixture(scope="session")
def settings() -> engine_lib.Settings:
  return engine_lib.Settings(
    num_pages=48, page_size=8, rows=(4,), pieces=(16,), block=8, drafts=(3,)
  )


@pytest.fixture(scope="session")
def _compiled(tiny, settings) -> engine_lib.Engine:
  drafter = speculation.PromptLookup()  # for the shapes that verify
  engine = engine_lib.Engine(tiny, settings, drafter=drafter)
  engine.warm_up()
  return engine


@pytest.fixture
def make_engine(tiny, settings, _compiled) -> Callable[..., engine_lib.Engine]:
  """Makes engines of their own, around one set of compiled steps."""

  def make(settings=settings, *, pages: int | None = None, **options):
    engine = engine_lib.Engine(tiny, settings, **options)
    engine.runner = copy.copy(_compiled.runner)
    engine.runner.reset()  # a pool of its own
    if pages is not None:  # the others are somebody else's
      allocator = engine.scheduler.memory.allocator
      allocator.take(allocator.num_free - pages)
    return engine

  return make


@pytest.fixture
def engine(make_engine) -> engine_lib.Engine:
  return make_engine()


@pytest.fixture
def hash_engine(tiny) -> Callable[..., engine_lib.Engine]:
  """Makes engines on a device of hashes: no compiling, no rounding."""

  def make(
    num_pages: int = 12,
    prefix_cache: bool = True,
    exact: bool = True,
    **options,
  ):
    settings = engine_lib.Settings(
      num_pages=num_pages,
      page_size=4,
      rows=(1, 3),
      pieces=(4, 8),
      block=4,
      drafts=(1, 3),
      prefix_cache=prefix_cache,
    )
    if not exact:
      options["layout"] = parallel.Alone(hash_device.Inexact())
    engine: Any = engine_lib.Engine(tiny, settings, **options)
    engine.runner = hash_device.HashRunner(
      engine.runner.sizes, settings.page_size, engine.runner.shapes, exact
    )
    return engine

  return make


@pytest.fixture(scope="session")
def alone(tiny) -> Callable[..., list[int]]:
  """What the lock-step generator answers to one prompt."""
  generator = generation.Generator(tiny, page_size=32)

  def generate(prompt, choice=GREEDY, *, max_tokens: int = 12) -> list[int]:
    stream = generator.stream([prompt], [choice], max_tokens=max_tokens)
    return [int(tokens[0]) for tokens in stream]

  return generate


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
  """Of lengths around those of pages, blocks and pieces; the last two agree."""
  rng = np.random.default_rng(0)
  lengths = (1, 3, 8, 9, 16, 17, 30, 40)
  found = [rng.integers(0, 256, n).tolist() for n in lengths]
  return [*found, [*found[-1][:33], 7, 7]]


@pytest.fixture
def compilations():
  """Names every program compiled while the test runs."""
  found = []

  def listen(event: str, duration_secs: float, **details: str | int) -> None:
    del duration_secs
    if event == "/jax/core/compile/backend_compile_duration":
      found.append(details.get("fun_name", event))

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield found
  jax.monitoring.unregister_event_duration_listener(listen)
