"""Every shipped configuration lowers for CUDA, and compiles without spills."""

import functools
import re

import jax.numpy as jnp
import pytest

from kernels_pallas import testing
from kernels_pallas.threshold_attention import (
  shapes,
  triton,
  triton_launch,
  triton_one_pass,
)

_BY_NAME = {shape.name: shape for shape in shapes.SHAPES}
_KERNELS = {
  "two-pass": (triton.attend, ["_score_kernel", "_value_kernel"]),
  "one-pass": (triton_one_pass.attend, ["_kernel"]),
}
_ALL = [(name, kind) for name in _BY_NAME for kind in _KERNELS]
# What differs most; the other shapes compile in `make test-full`.
_QUICK = {
  ("smollm2-135m-8k", 90),
  ("llama-3-8b-8k", 80),
  ("llama-3-8b-8k", 90),
  ("gemma-3-270m-32k", 90),
  ("gemma-3-270m-32k-verify-8", 80),
  ("gemma-3-270m-32k-verify-8", 90),
}


def _cases(names):
  """A case for each kernel and machine."""
  return [
    pytest.param(
      *(name, kind, sm),
      marks=() if (name, sm) in _QUICK else pytest.mark.slow,
    )
    for name in names
    for kind in _KERNELS
    for sm in (80, 90)
  ]


_HALF = [name for name, x in _BY_NAME.items() if x.dtype == "bfloat16"]


@functools.cache
def _lower(name: str, kind: str) -> list[testing.LoweredKernel]:
  shape = _BY_NAME[name]
  attend = functools.partial(
    _KERNELS[kind][0], scale=shape.head_dim**-0.5, sinks=4
  )
  return testing.assert_lowers(attend, *shape.arguments())


@pytest.mark.parametrize(("name", "kind"), _ALL)
def test_trap_02_lowers_with_the_launch_shape_meant(name: str, kind: str):
  """Every shipped shape lowers, not only interprets."""
  shape = _BY_NAME[name]
  kernels = _lower(name, kind)
  group = shape.heads // shape.kv_heads
  config = triton_launch.config_for(
    shape.batch * shape.kv_heads,
    triton_launch.Rows(shape.queries, shape.kv_heads, group).padded,
    tokens=shape.tokens,
    page_size=shape.page_size,
    width=shape.head_dim,
    itemsize=jnp.dtype(shape.dtype).itemsize,
  )
  splits = config.splits if kind == "two-pass" else min(config.splits, 4)
  assert [k.name for k in kernels] == _KERNELS[kind][1]
  for kernel in kernels:
    assert kernel.grid == (shape.batch, shape.kv_heads, splits)
    assert kernel.num_warps == config.num_warps
    assert kernel.num_stages == config.num_stages


@pytest.mark.parametrize(("name", "kind", "sm"), _cases(_BY_NAME))
def test_trap_02_registers_do_not_spill(name: str, kind: str, sm: int):
  """Every shipped shape compiles to machine code for both machines."""
  print(f"\n{name} sm_{sm}")
  for kernel in _lower(name, kind):
    used = testing.assert_resources(kernel, sm=sm, max_registers=224)
    print(f"  {kernel.name}: {used.registers} registers", end="")
    print(f", {used.shared_bytes} bytes of shared memory, no spill")


@pytest.mark.parametrize(("name", "kind", "sm"), _cases(_HALF))
def test_trap_01_values_load_by_row_behind_a_branch(
  name: str, kind: str, sm: int
):
  """And keys go to shared memory in the background, 16 bytes a thread."""
  kernels = _lower(name, kind)
  assert (
    "LDGSTS.E.BYPASS.128" in testing.assert_resources(kernels[0], sm=sm).sass
  )
  loads = _value_loads(testing.assert_resources(kernels[-1], sm=sm).sass)
  assert loads
  assert all(loads)


@pytest.mark.parametrize("kind", _KERNELS)
def test_trap_01_a_kernel_that_loads_all_values_is_caught(monkeypatch, kind):
  """It selects later, so that no NaN shows: only the machine code does."""
  load = triton.plgpu.load

  def load_all(ref, mask=None, other=0.0):
    if mask is None:
      return load(ref)
    return jnp.where(mask, load(ref), other)

  monkeypatch.setattr(triton.plgpu, "load", load_all)
  attend = functools.partial(_KERNELS[kind][0], scale=1.0, sinks=0)
  shape = _BY_NAME["llama-3-8b-8k"]
  kernel = testing.assert_lowers(attend, *shape.arguments())[-1]
  assert not all(_value_loads(testing.assert_resources(kernel, sm=90).sass))


def _value_loads(sass: str) -> list[bool]:
  """Of each wide load behind the last product's branch: is it predicated?"""
  lines = [
    line for line in sass.splitlines() if re.search(r"/\*\w{4,5}\*/", line)
  ]
  product = max(i for i, line in enumerate(lines) if "HMMA" in line)
  branch = max(
    i
    for i, line in enumerate(lines[:product])
    if re.search(r"@!?P\d BRA", line)
  )
  loads = [x for x in lines[branch:product] if re.search(r"LDG\S*\.128", x)]
  return [bool(re.search(r"@!?P\d\s+LDG", line)) for line in loads]
