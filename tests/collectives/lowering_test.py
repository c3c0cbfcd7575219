"""What the program that XLA is given says."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collectives
from tests.collectives import cases

_COLLECTIVE = re.compile(
  r'"stablehlo\.(reduce_scatter|collective_permute|all_gather|all_reduce)"'
  r".*?dense<(\[\[.*?\]\])>.*?\(tensor<(\w+)>\) -> tensor<(\w+)>",
  re.DOTALL,
)


def _lower(name, sizes, length, dtype="float32", **how):
  function = cases.per_rank(
    lambda x, axes: collectives.all_reduce(x, axes, algorithm=name, **how),
    *sizes,
    out="same",
  )
  shape = (int(np.prod(sizes)), length)
  return function.lower(jax.ShapeDtypeStruct(shape, dtype))


def _text(compiled: jax.stages.Compiled) -> str:
  text = compiled.as_text()
  assert text is not None
  return text


def _collectives(lowered):
  """Kind, groups or pairs, and shapes in and out."""
  return [
    (kind, np.array(json.loads(groups)), source, target)
    for kind, groups, source, target in _COLLECTIVE.findall(lowered.as_text())
  ]


def test_trap_2_nvrar_is_scatter_permutes_gather():
  """4 x 2: groups within nodes, log2 4 permutations across, half the bytes."""
  found = _collectives(_lower("nvrar", (4, 2), 1001))
  kinds = [kind for kind, *_ in found]
  assert kinds == [
    "reduce_scatter",
    "collective_permute",
    "collective_permute",
    "all_gather",
  ]
  nodes = [[0, 1], [2, 3], [4, 5], [6, 7]]
  np.testing.assert_array_equal(found[0][1], nodes)
  np.testing.assert_array_equal(found[3][1], nodes)
  for distance, (_, pairs, source, target) in zip(
    (2, 4), found[1:3], strict=True
  ):
    assert source == target == "1x501xf32"
    assert {tuple(pair) for pair in pairs.tolist()} == {
      (rank, rank ^ distance) for rank in range(8)
    }
  assert found[0][2:] == ("2x501xf32", "1x501xf32")
  assert found[3][2:] == ("1x501xf32", "2x501xf32")


def test_trap_2_three_nodes_fold():
  found = _collectives(_lower("nvrar", (3, 2), 10))
  pairs = [pairs.tolist() for kind, pairs, *_ in found if "permute" in kind]
  assert pairs == [
    [[4, 0], [5, 1]],
    [[0, 2], [2, 0], [1, 3], [3, 1]],
    [[0, 4], [1, 5]],
  ]


def test_chunks_are_permuted_by_themselves():
  found = _collectives(_lower("nvrar", (2, 2), 1000, chunks=4))
  shapes = [shape for kind, _, shape, _ in found if "permute" in kind]
  assert shapes == ["1x125xf32"] * 4


def test_bfloat16_travels_as_16_bits():
  """XLA:CPU would widen it; wide sums double the bytes, as documented."""
  compiled = _lower("recursive_doubling", (4,), 64, "bfloat16").compile()
  kinds = re.findall(r"= (\w+)\[\S* collective-permute\(", _text(compiled))
  assert kinds == ["u16", "u16"]
  wide = _lower(
    "recursive_doubling", (4,), 64, "bfloat16", accumulate=jnp.float32
  )
  assert {shape for *_, shape in _collectives(wide)} == {"1x64xf32"}


@pytest.mark.parametrize(
  ("name", "sizes", "accessed"),
  [
    # Each permutation reads and writes its bytes, each sum reads two and writes
    # one; scatter and gather read and write whole and half.
    ("recursive_doubling", (8,), 3 * (2 + 3)),
    ("nvrar", (4, 2), 1.5 + 2 * (1 + 1.5) + 1.5),
  ],
)
def test_lowering_adds_no_copy(name, sizes, accessed):
  compiled = _lower(name, sizes, 4096).compile()
  assert not re.findall(r" copy\(", _text(compiled))
  cost = compiled.cost_analysis()
  assert cost is not None
  assert cost["bytes accessed"] == pytest.approx(4 * 4096 * accessed, rel=1e-3)


def test_a_ring_does_not_copy_its_buffer_in_every_step():
  compiled = _lower("ring", (8,), 4096).compile()
  assert len(re.findall(r" copy\(", _text(compiled))) <= 2  # of 14 steps
