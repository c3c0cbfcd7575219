"""Checks that prove a GPU kernel without a GPU; they work on any Pallas kernel.

From cheap to dear: results against a reference, reads that must not happen,
lowering for CUDA, and what the assembler makes of it. None of them times
anything: interpreted kernels say nothing about speed.

Example (a kernel that JAX ships):
  >>> import functools
  >>> from jax.experimental.pallas.ops.gpu import decode_attention
  >>> keys = jax.random.split(jax.random.key(0), 3)
  >>> q = jax.random.normal(keys[0], (1, 16, 64))
  >>> k, v = (jax.random.normal(key, (1, 256, 64)) for key in keys[1:])
  >>> ours = functools.partial(
  ...   decode_attention.mqa, k_splits=2, block_h=16)
  >>> assert_matches_reference(
  ...   functools.partial(ours, interpret=True),
  ...   decode_attention.mqa_reference, (q, k, v), rtol=1e-5)
  >>> (kernel,) = assert_lowers(ours, q, k, v)
  >>> kernel.grid
  (1, 2, 1)
"""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.interpreters import mlir as jax_mlir
from jax._src.lib import triton as triton_lib
from jaxlib.mlir import ir

_TARGET = "__gpu$xla.gpu.triton"
_ENVIRONMENT = "DECTET_GPUCC_PYTHON"
_GPUCC = pathlib.Path(".venv-gpucc", "bin", "python")


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


def assert_matches_reference(
  kernel: Callable[..., Any],
  reference: Callable[..., Any],
  args: Sequence[Any],
  *,
  rtol: float,
) -> None:
  """Asserts that a kernel computes what its reference does.

  Args:
    kernel: the function to check; interpreted, where there is no GPU.
    reference: the same function written plainly.
    args: given to both.
    rtol: most error, as a part of each output's largest finite magnitude.
      Integers must be equal, and infinities in the same places.

  Raises:
    AssertionError: names the output, its error and the tolerance.
  """
  got, expected = (
    jax.tree_util.tree_leaves_with_path(f(*args)) for f in (kernel, reference)
  )
  names = [jax.tree_util.keystr(path) for path, _ in expected]
  assert [jax.tree_util.keystr(path) for path, _ in got] == names
  for name, (_, ours), (_, theirs) in zip(names, got, expected, strict=True):
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), name
    if not jnp.issubdtype(ours.dtype, jnp.floating):
      np.testing.assert_array_equal(ours, theirs, err_msg=name)
      continue
    ours, theirs = (np.asarray(x, np.float64) for x in (ours, theirs))
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(ours[~finite], theirs[~finite], err_msg=name)
    limit = rtol * np.abs(theirs[finite]).max(initial=0.0)
    error = np.abs(ours[finite] - theirs[finite]).max(initial=0.0)
    assert error <= limit, (
      f"output {name}: got error {error:.3g}, expected at most {limit:.3g}"
    )


def assert_never_reads(
  kernel: Callable[..., Any],
  args: Sequence[Any],
  unread: Sequence[np.ndarray | jax.Array | None],
) -> None:
  """Asserts that elements which must not be read do not reach any output.

  NaN is planted in them. A kernel that reads all and multiplies by a weight of
  zero fails, since 0 times NaN is NaN. One that reads all and then selects
  passes: `assert_resources` shows whether loads themselves are predicated.

  Args:
    kernel: the function to check.
    args: for the kernel.
    unread: for each argument a mask of what must not be read, or `None`.

  Raises:
    AssertionError: an output changed.
    ValueError: there is nothing to plant, so the check could not fail.
  """
  if not any(mask is not None and mask.any() for mask in unread):
    raise ValueError("unread: got no element, expected at least one to poison")
  poisoned = [
    x if mask is None else jnp.where(mask, jnp.nan, x)
    for x, mask in zip(args, unread, strict=True)
  ]
  clean, after = (
    jax.tree_util.tree_leaves_with_path(kernel(*x)) for x in (args, poisoned)
  )
  for (path, before), (_, now) in zip(clean, after, strict=True):
    name = jax.tree_util.keystr(path)
    before, now = (np.asarray(x, np.float64) for x in (before, now))
    assert not np.isnan(before).any(), f"output {name} is NaN unpoisoned"
    changed = int((before != now).sum())
    assert not changed, (
      f"output {name}: {changed} of {before.size} elements changed when NaN "
      "was planted where nothing must be read"
    )


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
  used = _compile(_gpucc_python(), kernel, sm)
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
  worker = pathlib.Path(__file__).with_name("gpu_compiler.py")
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder, "kernel.ttir")
    file.write_text(kernel.ir, encoding="utf-8")
    numbers = (str(sm), str(kernel.num_warps), str(kernel.num_stages))
    done = subprocess.run(
      [python, worker, file, *numbers], capture_output=True, text=True
    )
  assert done.returncode == 0, done.stderr
  return Resources(**json.loads(done.stdout))


def _gpucc_python() -> str:
  """The Python that has the `triton` wheel; skips where there is none."""
  python = os.environ.get(_ENVIRONMENT, str(_GPUCC))
  if not pathlib.Path(python).is_file():
    import pytest

    pytest.skip(
      f"no GPU compiler: got no file {python}, expected the Python of an "
      f"environment with the triton wheel there or in ${_ENVIRONMENT}"
    )
  return python
