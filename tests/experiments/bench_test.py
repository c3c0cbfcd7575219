"""The bench times real work: its steps are the generator's own."""

import dataclasses

import numpy as np
import pytest

from experiments.tools import bench_decoder, rivals
from research.inference import generation, sampling
from research.telemetry import peer
from research.transformer.checkpoints import model
from tests import tiny


@pytest.fixture(scope="module")
def generator():
  config = dataclasses.replace(tiny.CONFIG, context_length=256)
  return generation.Generator(model.initialise(config, seed=0))


def test_timed_steps_decode_what_the_generator_does(generator):
  prompts = [list(range(128)), list(range(100, 228))]
  steps = bench_decoder._our_steps(generator, prompts)
  greedy = [sampling.Sampling()] * 2
  *_, last = generator.stream(prompts, greedy, max_tokens=17)
  for _ in range(2):  # every call starts from the same cache
    np.testing.assert_array_equal(np.asarray(steps()), last)


def test_rivals_start_from_the_prompt_and_their_own_time_counts():
  calls = []

  def worker(request):
    calls.append(request["op"])
    return peer.Reply(0.5 if request["op"] == "step" else 9.0, {})

  steps = rivals.steps(worker, [[1, 2]], 3)
  assert steps().seconds == 0.5
  assert calls == ["start", "step"]


def test_the_limit_of_a_product_grows_with_its_operations():
  small, large = (
    bench_decoder._large_product(n, size=64)().seconds for n in (1, 10**12)
  )
  assert 0 < small < large
