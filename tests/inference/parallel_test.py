"""An engine over several ranks answers as it does on one device."""

import dataclasses
import re

import jax
import pytest

from collectives import algorithms
from research import mesh as mesh_lib
from research.inference import batch as batch_lib
from research.inference import engine as engine_lib
from research.inference import parallel, runner, sampling
from research.inference.request import Request
from tests import tiny as tiny_lib

_LAYOUTS = {  # the tiny model has two key-value heads and two layers
  "heads": ({"node": 1, "local": 2}, "xla"),
  "parts of heads": ({"node": 2, "local": 2}, "nvrar"),
  "stages": ({"pipe": 2, "node": 1, "local": 1}, "xla"),
  "stages of ranks": ({"pipe": 2, "node": 2, "local": 1}, "nvrar"),
  "stages of parts of heads": ({"pipe": 2, "node": 2, "local": 2}, "nvrar"),
  "three stages, one idle": ({"pipe": 3, "node": 1, "local": 2}, "ring"),
}


def _requests(prompts) -> list[Request]:
  """Greedy ones and drawn ones, by turns."""
  return [
    Request(
      prompt,
      max_tokens=10,
      sampling=sampling.Sampling(temperature=float(i % 2), seed=i),
    )
    for i, prompt in enumerate(prompts)
  ]


def _answers(engine, prompts) -> list[list[int]]:
  return [list(one.tokens) for one in engine.generate(_requests(prompts))]


def _split(model, settings, shape, algorithm) -> engine_lib.Engine:
  layout = parallel.Split(mesh=mesh_lib.make_mesh(shape), algorithm=algorithm)
  return engine_lib.Engine(model, settings, layout=layout)


@pytest.mark.parametrize(
  "name",
  [
    "parts of heads",
    "stages of parts of heads",  # whose loops over pages end together
    pytest.param("stages of ranks", marks=pytest.mark.slow),
    pytest.param("heads", marks=pytest.mark.slow),
    pytest.param("stages", marks=pytest.mark.slow),
    pytest.param("three stages, one idle", marks=pytest.mark.slow),
  ],
)
def test_trap_18_answers_are_those_of_one_device(
  tiny, settings, engine, prompts, name
):
  split = _split(tiny, settings, *_LAYOUTS[name])
  assert isinstance(split.runner.layout, parallel.Layout)
  split.warm_up()
  compiled = split.runner.num_compiled
  for _ in range(2):  # the second time with prefixes from the cache
    assert _answers(split, prompts) == _answers(engine, prompts)
  assert split.runner.num_compiled == compiled


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", algorithms.names("all_reduce"))
def test_trap_18_every_all_reduce_gives_the_answers(
  tiny, settings, engine, prompts, algorithm
):
  split = _split(tiny, settings, {"node": 2, "local": 2}, algorithm)
  assert _answers(split, prompts) == _answers(engine, prompts)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_trap_18_eight_heads_on_four_give_the_answers(settings, prompts, ranks):
  """By heads on 2 and 4 ranks, by parts of heads on 8."""
  config = dataclasses.replace(
    tiny_lib.CONFIG, embed_dim=64, num_heads=8, num_kv_heads=4, head_dim=16
  )
  model = tiny_lib.chaotic(config)
  shape = {"node": 2, "local": ranks // 2}
  split = _split(model, settings, shape, "nvrar")
  alone = engine_lib.Engine(model, settings)
  assert _answers(split, prompts) == _answers(alone, prompts)


def _moves_of_pools(hlo: str, pages: int) -> list[str]:
  """Copies of anything with as many pages as a pool, `[pages, ., ., .]`."""
  shape = rf"\w+\[{pages},\d+,\d+,\d+\]"
  return re.findall(rf"= {shape}\S* (?:copy|copy-start|transpose)\(.*", hlo)


def test_a_decode_step_reduces_twice_a_layer_and_moves_no_pool(tiny):
  """And gathers logits once; every array of the pool is written in place."""
  sizes = batch_lib.Sizes(block=8, pages=4, num_pages=16, slots=4, vocab=256)
  shape = batch_lib.Shape(4, 0)
  layout = parallel.Split(mesh=mesh_lib.make_mesh({"node": 2, "local": 1}))
  steps = runner.Runner(tiny, sizes, 8, [shape], layout)
  hlo = steps.compiled(shape).as_text()
  assert len(re.findall(r" all-reduce\(", hlo)) == 1 + 2 * 2
  assert len(re.findall(r" all-gather\(", hlo)) == 1
  aliases = re.search(r"input_output_alias=\{(.*?)\}, entry", hlo, re.S)
  assert aliases is not None
  arrays = len(jax.tree.leaves(steps._carried))
  assert aliases[1].count("-alias") == arrays
  assert not _moves_of_pools(hlo, sizes.num_pages)


def test_stages_pass_a_step_on_and_reduce_nothing_but_answers(tiny):
  """In two micro-batches: three ticks, after each of which all pass on."""
  sizes = batch_lib.Sizes(block=8, pages=4, num_pages=16, slots=4, vocab=256)
  shape = batch_lib.Shape(4, 0)
  mesh = mesh_lib.make_mesh({"pipe": 2, "node": 1, "local": 1})
  steps = runner.Runner(tiny, sizes, 8, [shape], parallel.Split(mesh=mesh))
  hlo = steps.compiled(shape).as_text()
  passed = re.findall(r"= f32\[([\d,]+)\]\S* collective-permute\(", hlo)
  half = f"1,{shape.rows // 2},{tiny.config.embed_dim}"
  assert set(passed) == {half}
  assert 2 <= len(passed) <= 3  # nobody reads what the last tick passes on
  assert not _moves_of_pools(hlo, sizes.num_pages)
