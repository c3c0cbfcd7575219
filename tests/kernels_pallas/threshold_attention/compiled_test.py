"""Every shipped configuration lowers for CUDA, and compiles without spills."""

import functools
import re

import jax.numpy as jnp
import pytest

from kernels_pallas import testing
from kernels_pallas.threshold_attention import shapes, triton

_BY_NAME = {shape.name: shape for shape in shapes.SHAPES}
_HALF = [name for name, s in _BY_NAME.items() if s.dtype == "bfloat16"]


@functools.cache
def _lower(name: str) -> list[testing.LoweredKernel]:
  shape = _BY_NAME[name]
  attend = functools.partial(triton.attend, scale=shape.head_dim**-0.5)
  return testing.assert_lowers(attend, *shape.arguments())


@pytest.mark.parametrize("name", _BY_NAME)
def test_lowers_with_the_launch_shape_meant(name: str):
  shape = _BY_NAME[name]
  kernels = _lower(name)
  config = triton.config_for(
    shape.batch,
    shape.kv_heads,
    tokens=shape.tokens,
    page_size=shape.page_size,
    itemsize=jnp.dtype(shape.dtype).itemsize,
  )
  assert [k.name for k in kernels] == ["_score_kernel", "_value_kernel"]
  for kernel in kernels:
    assert kernel.grid == (shape.batch, shape.kv_heads, config.splits)
    assert kernel.num_warps == config.num_warps
    assert kernel.num_stages == config.num_stages


@pytest.mark.parametrize("sm", [80, 90])
@pytest.mark.parametrize("name", _BY_NAME)
def test_registers_do_not_spill(name: str, sm: int):
  scores, values = _lower(name)
  print(f"\n{name} sm_{sm}")
  for kernel in (scores, values):
    used = testing.assert_resources(kernel, sm=sm, max_registers=224)
    print(f"  {kernel.name}: {used.registers} registers", end="")
    print(f", {used.shared_bytes} bytes of shared memory, no spill")


@pytest.mark.parametrize("sm", [80, 90])
@pytest.mark.parametrize("name", _HALF)
def test_keys_stream_and_values_load_behind_a_branch(name: str, sm: int):
  scores, values = _lower(name)
  # Keys go to shared memory in the background, 16 bytes a thread.
  keys = testing.assert_resources(scores, sm=sm).sass
  assert "LDGSTS.E.BYPASS.128" in keys
  # Values go row by row under a predicate, after a branch around them all.
  sass = testing.assert_resources(values, sm=sm).sass
  assert _value_loads(sass)
  assert all(_value_loads(sass))


def test_a_kernel_that_loads_all_values_is_caught(monkeypatch):
  """It selects later, so that no NaN shows: only the machine code does."""
  load = triton.plgpu.load

  def load_all(ref, mask=None, other=0.0):
    if mask is None:
      return load(ref)
    return jnp.where(mask, load(ref), other)

  monkeypatch.setattr(triton.plgpu, "load", load_all)
  (shape,) = [s for s in shapes.SHAPES if s.name == "llama-3-8b-8k"]
  attend = functools.partial(triton.attend, scale=1.0)
  _, values = testing.assert_lowers(attend, *shape.arguments())
  sass = testing.assert_resources(values, sm=90).sass
  assert not all(_value_loads(sass))


def _value_loads(sass: str) -> list[bool]:
  """Of each wide load between a branch and the product: is it predicated?"""
  lines = [
    line for line in sass.splitlines() if re.search(r"/\*\w{4}\*/", line)
  ]
  product = next(i for i, line in enumerate(lines) if "HMMA" in line)
  branch = max(
    i
    for i, line in enumerate(lines[:product])
    if re.search(r"@!?P\d BRA", line)
  )
  loads = [x for x in lines[branch:product] if re.search(r"LDG\S*\.128", x)]
  return [bool(re.search(r"@!?P\d\s+LDG", line)) for line in loads]
