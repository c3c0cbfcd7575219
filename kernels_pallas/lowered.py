"""Pallas-Triton kernels, lowered for CUDA and compiled without a GPU."""

import dataclasses
import functools
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
from jax._src.interpreters import mlir as jax_mlir
from jax._src.lib import triton as triton_lib
from jaxlib.mlir import ir

from kernels_pallas import gpucc

_TARGET = "__gpu$xla.gpu.triton"


@dataclasses.dataclass(frozen=True)
class LoweredKernel:
  """A Pallas-Triton kernel inside a program lowered for CUDA.

  Attributes:
    name: the kernel's.
    grid: programs along each axis.
    num_warps: warps of a program.
    num_stages: depth of the load pipeline.
    ir: its Triton IR, as text.
  """

  name: str
  grid: tuple[int, int, int]
  num_warps: int
  num_stages: int
  ir: str


@dataclasses.dataclass(frozen=True)
class Resources:
  """What the assembler made of a kernel.

  Attributes:
    registers: of each thread.
    stack_bytes: of each thread; not 0 where registers spill.
    shared_bytes: of each program.
    spill_instructions: loads from and stores to local memory.
    loads: instructions that load from global memory.
    predicated_loads: those of them that a predicate can switch off.
    sass: the machine code, as text.
  """

  registers: int
  stack_bytes: int
  shared_bytes: int
  spill_instructions: int
  loads: int
  predicated_loads: int
  sass: str


def assert_lowers(fn: Callable[..., Any], *args: Any) -> list[LoweredKernel]:
  """Asserts that a function lowers for CUDA, to Pallas-Triton kernels.

  What interprets need not lower: sorts, `jnp.any` and slices whose sizes are
  no powers of two do not. So check every configuration that is shipped.

  Args:
    fn: calls kernels; is jitted here.
    *args: arrays, or `jax.ShapeDtypeStruct`s, which take no memory.

  Returns:
    The kernels, in the order of the program.

  Raises:
    AssertionError: the program has no kernel.
  """
  lowered = jax.jit(fn).trace(*args).lower(lowering_platforms=("cuda",))
  found: list[LoweredKernel] = []

  def visit(op):
    operation = op.operation
    if operation.name == "stablehlo.custom_call":
      target = ir.StringAttr(operation.attributes["call_target_name"]).value
      if target == _TARGET:
        found.append(_read_kernel(operation.attributes["mhlo.backend_config"]))
    return ir.WalkResult.ADVANCE

  module: Any = lowered.compiler_ir("stablehlo")
  module.operation.walk(visit)
  assert found, f"no {_TARGET} call in the program lowered for CUDA"
  return found


def _read_kernel(attribute: ir.Attribute) -> LoweredKernel:
  """Reads a custom call's configuration."""
  config = ir.DictAttr(attribute)
  number = lambda name: ir.IntegerAttr(config[name]).value
  context = jax_mlir.make_ir_context()
  triton_lib.dialect.register_dialect(context)
  with context:
    module = ir.Module.parse(ir.StringAttr(config["ir"]).value_bytes)
    text = str(module.operation.get_asm(enable_debug_info=False))
  return LoweredKernel(
    name=ir.StringAttr(config["name"]).value,
    grid=(number("grid_x"), number("grid_y"), number("grid_z")),
    num_warps=number("num_warps"),
    num_stages=number("num_stages"),
    ir=text,
  )


def assert_resources(
  kernel: LoweredKernel, *, sm: int, max_registers: int = 255
) -> Resources:
  """Asserts that a kernel compiles to machine code that does not spill.

  The `triton` wheel compiles it, in a process of its own environment. Without
  that environment the calling test is skipped, visibly.

  Args:
    kernel: from `assert_lowers`.
    sm: compute capability: 80 for an A100, 90 for an H100.
    max_registers: most registers of a thread.

  Returns:
    What the kernel uses, and its machine code.

  Raises:
    AssertionError: it spills, or takes more registers.
  """
  used = _compile(gpucc.python(), kernel, sm)
  got = used.registers, used.stack_bytes, used.spill_instructions
  within = got[0] <= max_registers and got[1:] == (0, 0)
  assert within, (
    f"kernel {kernel.name} on sm_{sm}: got {got[0]} registers, {got[1]} bytes "
    f"of stack and {got[2]} spill instructions, expected at most "
    f"{max_registers}, 0 and 0"
  )
  return used


@functools.cache
def _compile(python: str, kernel: LoweredKernel, sm: int) -> Resources:
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder, "kernel.ttir")
    file.write_text(kernel.ir, encoding="utf-8")
    numbers = (str(sm), str(kernel.num_warps), str(kernel.num_stages))
    answer = gpucc.run(python, "gpu_compiler.py", file, *numbers)
  return Resources(**json.loads(answer))
