"""Test session: CPU devices, absl flags, strict modes, compile cache."""

import dataclasses
import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# JAX keeps no compiled program that calls back to Python, as equinox's checks
# that raise do; so they give NaN, which ends in our own errors.
os.environ.setdefault("EQX_ON_ERROR", "nan")

import jax
import pytest
from absl import flags
from flax import nnx

from research.data import artifacts, tokenizer
from research.data import gguf as gguf_data
from research.runs import compilation
from research.transformer import checkpoints, decoder
from research.transformer.checkpoints import gguf


def pytest_configure(config: pytest.Config) -> None:
  del config
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(sys.argv[:1])  # grain and absl read flags when imported
  jax.config.update("jax_num_cpu_devices", 8)
  jax.config.update("jax_numpy_rank_promotion", "raise")
  compilation.keep()


def pytest_addoption(parser: pytest.Parser) -> None:
  parser.addoption(
    "--full", action="store_true", help="also run tests marked slow and peers"
  )
  parser.addoption(
    "--update-golden", action="store_true", help="rewrite tests/golden files"
  )


def pytest_collection_modifyitems(
  config: pytest.Config, items: list[pytest.Item]
) -> None:
  if config.getoption("--full"):
    return
  skip = pytest.mark.skip(reason="runs in `make test-full`")
  for item in items:
    if item.get_closest_marker("slow") or item.get_closest_marker("peers"):
      item.add_marker(skip)


@pytest.fixture(scope="session")
def smollm2_path() -> pathlib.Path:
  try:
    return artifacts.fetch("smollm2-135m-instruct-q4_1", progress=False)
  except artifacts.ArtifactError as error:
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def smollm2(smollm2_path: pathlib.Path) -> checkpoints.Model:
  return gguf.load(smollm2_path)


@pytest.fixture(scope="session")
def smollm2_start(smollm2: checkpoints.Model) -> checkpoints.Model:
  """Its first two layers: real attention, quick to compile."""
  config = dataclasses.replace(smollm2.config, num_layers=2)
  graphdef, wanted = decoder.abstract(config)
  have = dict(nnx.to_flat_state(smollm2.state))
  paths = [path for path, _ in nnx.to_flat_state(wanted)]
  state = nnx.from_flat_state([(path, have[path]) for path in paths])
  return checkpoints.Model(config, graphdef, state)


@pytest.fixture(scope="session")
def smollm2_words(smollm2_path: pathlib.Path) -> tokenizer.Tokenizer:
  return tokenizer.Tokenizer.from_gguf(gguf_data.GGUFFile.open(smollm2_path))
