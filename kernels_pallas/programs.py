"""Whole programs, compiled for H100s without one."""

import dataclasses
import functools
import io
import json
import math
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxlib.mlir import ir

from kernels_pallas import gpucc


@dataclasses.dataclass(frozen=True)
class Program:
  """What XLA made of a program; sizes are those of one device.

  Attributes:
    argument_bytes: of the arguments.
    output_bytes: of the results.
    alias_bytes: of results that take the place of donated arguments.
    temp_bytes: of memory that it needs besides.
    hlo: the optimised program in the order of its schedule, as text.
    ptx: of its Mosaic kernels, as text.
    ptxas: what the assembler says of them: registers and spills.
  """

  argument_bytes: int
  output_bytes: int
  alias_bytes: int
  temp_bytes: int
  hlo: str
  ptx: str
  ptxas: str

  def instructions(self, opcode: str) -> list[str]:
    """Its instructions of a kind.

    Args:
      opcode: such as "copy" or "all-gather-start".

    Returns:
      Their lines, those inside fusions and called computations included.
    """
    pattern = rf"^\s*(?:ROOT )?%\S+ = .*?\s{re.escape(opcode)}\(.*$"
    return [x.strip() for x in re.findall(pattern, self.hlo, re.MULTILINE)]


def assert_compiles(
  fn: Callable[..., Any],
  *args: Any,
  topology: str = "1x1x1",
  options: Mapping[str, int | bool | str] | None = None,
  handlers: Mapping[str, str | pathlib.Path] | None = None,
) -> Program:
  """Asserts that XLA compiles a program for H100s, kernels included.

  It is lowered here and compiled in a process of the environment that has JAX's
  CUDA plugin. Without that environment the calling test is skipped, visibly.
  Nothing is autotuned, since that would need the device.

  Args:
    fn: the program; `jax.jit` it to donate arguments.
    *args: arrays, or `jax.ShapeDtypeStruct`s, which take no memory. For several
      devices they have shardings, over host devices or a `jax.sharding
      .AbstractMesh`.
    topology: NVLink domains, hosts of each, and GPUs of each host.
    options: of XLA, such as `{"xla_gpu_enable_pipelined_all_reduce": True}`.
    handlers: for the program's calls of `jax.ffi`, the library that each
      target's handler is in, under the target's name.

  Returns:
    The program, so that a test can say what it must not hold.

  Raises:
    AssertionError: it does not compile; with the compiler's words.
    ValueError: the program is for another number of devices.
  """
  if not hasattr(fn, "trace"):
    fn = jax.jit(fn)
  traced: Any = fn
  low = traced.trace(*args).lower(lowering_platforms=("cuda",))
  module = low.compiler_ir("stablehlo")
  attribute = module.operation.attributes["mhlo.num_partitions"]
  devices = ir.IntegerAttr(attribute).value
  if math.prod(map(int, topology.split("x"))) != devices:
    raise ValueError(
      f"topology: got {topology}, expected {devices} GPUs, as many as the "
      "program is for"
    )
  code = io.BytesIO()
  module.operation.write_bytecode(code)
  libraries = {name: str(path) for name, path in (handlers or {}).items()}
  extra = json.dumps(dict(options or {})), json.dumps(libraries)
  return _compile(gpucc.python(), code.getvalue(), topology, *extra)


@functools.cache
def _compile(
  python: str, code: bytes, topology: str, options: str, handlers: str
) -> Program:
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder, "program.mlirbc")
    file.write_bytes(code)
    answer = gpucc.run(
      python, "program_compiler.py", file, topology, options, handlers
    )
  return Program(**json.loads(answer))
