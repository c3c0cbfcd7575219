"""Launch shapes follow what the compiler says of them."""

import jax.numpy as jnp
import pytest

from kernels_pallas import testing
from kernels_pallas.threshold_attention import shapes, triton_launch, tuning


def _used(registers, shared_bytes):
  return testing.Resources(registers, 0, shared_bytes, 0, 0, 0, "")


@pytest.mark.parametrize(
  ("registers", "shared", "warps", "programs"),
  [
    (123, 18432, 4, 4),  # 128 registers of 128 threads: a quarter of 65,536
    (40, 73728, 4, 3),  # 3 times 74,752 bytes of 233,472
    (16, 0, 8, 8),  # 64 warps
    (16, 0, 1, 32),
  ],
)
def test_resident_programs(registers, shared, warps, programs):
  assert tuning.resident(_used(registers, shared), warps) == programs


def test_best_has_the_most_bytes_in_flight_and_registers_to_spare():
  make = lambda block, stages, registers: tuning.Candidate(
    triton_launch.Config(block, 2, 4, stages), (_used(registers, 0),), 256
  )
  thrifty, greedy = make(64, 3, 128), make(128, 3, 240)
  unpipelined = make(128, 1, 100)
  assert tuning.best([thrifty, greedy, unpipelined]) is thrifty
  assert thrifty.in_flight_bytes == 4 * 64 * 256


@pytest.mark.slow
@pytest.mark.parametrize("kind", tuning.KERNELS)
@pytest.mark.parametrize("name", ["llama-3-8b-8k", "gemma-3-270m-32k-verify-8"])
def test_config_for_is_near_the_best_of_the_table(name: str, kind: str):
  """One rule serves all shapes at three quarters of the best or more."""
  (shape,) = [x for x in shapes.SHAPES if x.name == name]
  found = list(tuning.candidates(shape, kind))
  group = shape.heads // shape.kv_heads
  config = triton_launch.config_for(
    shape.batch * shape.kv_heads,
    triton_launch.Rows(shape.queries, shape.kv_heads, group).padded,
    tokens=shape.tokens,
    page_size=shape.page_size,
    width=shape.head_dim,
    itemsize=jnp.dtype(shape.dtype).itemsize,
  )
  launch = (config.block, config.num_warps, config.num_stages)
  (ours,) = [
    x
    for x in found
    if launch == (x.config.block, x.config.num_warps, x.config.num_stages)
  ]
  most = tuning.best(found).in_flight_bytes
  assert ours.in_flight_bytes >= 0.75 * most
