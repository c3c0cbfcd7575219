"""Recorded checkpoints, the real model, and two compiled ways to run them."""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.transformer import attention, cache, checkpoints
from research.transformer.checkpoints import hugging_face

_GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


class Recorded(NamedTuple):
  """A tiny checkpoint by transformers, and what transformers said of it."""

  folder: pathlib.Path
  model: checkpoints.Model
  tokens: np.ndarray
  logits: np.ndarray
  inverse_frequencies: np.ndarray

  @property
  def hf_config(self) -> dict[str, Any]:
    return json.loads((self.folder / "config.json").read_text())


class Runner:
  """Logits of a model: whole rows, or cached positions of them."""

  def __init__(self):
    self.whole = jax.jit(self._whole, static_argnums=0)
    self.prefill = jax.jit(self._prefill, static_argnums=0)
    self.decode = jax.jit(self._decode, static_argnums=0)

  @staticmethod
  def _whole(graphdef, state, tokens):
    decoder = nnx.merge(graphdef, state)
    return decoder.logits(decoder(tokens).hidden)

  @staticmethod
  def _prefill(graphdef, state, tokens, table, pool):
    decoder = nnx.merge(graphdef, state)
    attend = attention.PagedPrefill(table)
    out = decoder(tokens, attention=attend, states=pool)
    return decoder.logits(out.hidden), out.states

  @staticmethod
  def _decode(graphdef, state, tokens, positions, table, pool):
    decoder = nnx.merge(graphdef, state)
    out = decoder(
      tokens,
      positions=positions,
      attention=attention.PagedDecode(table),
      states=pool,
    )
    return decoder.logits(out.hidden), out.states

  def logits(self, model: checkpoints.Model, tokens: np.ndarray) -> np.ndarray:
    return np.asarray(
      self.whole(model.graphdef, model.state, jnp.asarray(tokens))
    )


def make_pool(
  model: checkpoints.Model, *, batch: int, tokens: int, page_size: int
) -> tuple[jax.Array, list[cache.Pages]]:
  table = cache.contiguous_table(batch, tokens=tokens, page_size=page_size)
  # Backwards, so that no test passes by reading pages in order.
  table = table[::-1, ::-1]
  pool = cache.make_pool(
    model.config, num_pages=table.size, page_size=page_size
  )
  return table, pool


@pytest.fixture(scope="session")
def empty_pool() -> Callable[..., tuple[jax.Array, list[cache.Pages]]]:
  return make_pool


@pytest.fixture(scope="session")
def runner() -> Runner:
  return Runner()


@pytest.fixture(scope="session")
def load_recorded() -> Callable[[str], Recorded]:
  @functools.cache
  def load(name: str) -> Recorded:
    folder = _GOLDEN / "checkpoints" / name
    with np.load(folder / "golden.npz") as golden:
      return Recorded(folder, hugging_face.load(folder), **golden)

  return load


@pytest.fixture(
  scope="session", params=["llama3", "qwen2_tied", "qwen2_untied", "qwen3"]
)
def recorded(
  request: pytest.FixtureRequest, load_recorded: Callable[[str], Recorded]
) -> Recorded:
  return load_recorded(request.param)


@pytest.fixture(scope="session")
def smollm2_golden() -> Mapping[str, np.ndarray]:
  with np.load(_GOLDEN / "smollm2" / "llama_cpp.npz") as golden:
    return dict(golden)
