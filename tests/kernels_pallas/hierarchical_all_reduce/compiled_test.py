"""The kernels compiled for eight H100s in one domain; read, never run."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from kernels_pallas import testing
from kernels_pallas.hierarchical_all_reduce import api, shapes

_AXES = ("node", "local")
_SLOW = pytest.mark.slow
# Nodes of a domain, and GPUs of each; two nodes have all phases of one.
_GRIDS = [pytest.param((1, 8), marks=_SLOW), (2, 4)]
_QUICK = shapes.SHAPES[3]


def _compile(grid, body, like=None):
  local = grid[-1]
  axes = _AXES[-len(grid) :]
  mesh = jax.sharding.AbstractMesh(grid, axes)
  like = like or _QUICK.like()
  spec = jax.P(axes)
  mapped = jax.shard_map(
    lambda x: body(x[0])[None],
    mesh=mesh,
    in_specs=spec,
    out_specs=spec,
    check_vma=False,
  )
  shape = (mesh.size, *like.shape)
  sharding = jax.NamedSharding(mesh, spec)
  argument = jax.ShapeDtypeStruct(shape, like.dtype, sharding=sharding)
  # The domain 1x2x4 is of two hosts, as in a rack with one NVLink.
  topology = f"1x{mesh.size // local}x{local}"
  return testing.assert_compiles(mapped, argument, topology=topology)


def _kernel(implementation, **kwargs):
  return functools.partial(
    api.hierarchical_all_reduce, implementation=implementation, **kwargs
  )


def _assert_fits(program, most=128):
  """Few registers and no spill: all blocks are resident at once."""
  used = re.findall(r"Used (\d+) registers", program.ptxas)
  spills = re.findall(r"(\d+) bytes spill", program.ptxas)
  assert used
  assert max(map(int, used)) <= most
  assert set(spills) == {"0"}


@pytest.mark.parametrize("grid", _GRIDS)
def test_trap_11_bulk_puts_compile_with_release_and_acquire(grid):
  program = _compile(grid, _kernel("mosaic_gpu"))
  (call,) = program.instructions("custom-call")
  assert "mosaic_gpu" in call
  messages = 14 if grid == (1, 8) else 3 + 1 + 3
  count = program.ptx.count
  assert count("red.release.sys.global.add.u32") == messages
  assert count("fence.acquire.sys") == messages
  assert "st.b32" not in program.ptx  # all stores are of 16 bytes
  assert count("st.global.v4.b32") >= messages
  _assert_fits(program)


@pytest.mark.parametrize("grid", _GRIDS)
def test_trap_11_cells_compile_to_single_stores_of_eight_bytes(grid):
  program = _compile(grid, _kernel("mosaic_gpu_ll"))
  count = program.ptx.count
  messages = 14 if grid == (1, 8) else 3 + 1 + 3
  words = 4  # of a tile, for each thread
  assert count("st.relaxed.sys.global.b64") == messages * words
  assert count("ld.relaxed.sys.global.b64") == messages * words
  assert count("st.release.sys.global.b32") == messages  # acknowledgements
  assert count("ld.acquire.sys.global.b32") == messages
  assert "red." not in program.ptx  # no semaphore
  _assert_fits(program)


@pytest.mark.parametrize("grid", _GRIDS)
@pytest.mark.parametrize(
  "dtype", [pytest.param("float32", marks=_SLOW), "bfloat16"]
)
def test_trap_11_the_switch_adds_and_hands_out(grid, dtype):
  like = jax.ShapeDtypeStruct((8, 1024), jnp.dtype(dtype))  # needs no padding
  program = _compile(grid, _kernel("mosaic_gpu_multimem"), like)
  added = {"float32": "f32", "bfloat16": "bf16x2"}[dtype]
  assert f"multimem.ld_reduce.relaxed.sys.global.add.v4.{added}" in program.ptx
  assert "multimem.st.relaxed.sys.global.v4" in program.ptx
  assert "multimem.red.release.sys.global.add.u32" in program.ptx
  (call,) = program.instructions("custom-call")
  result, operands = call.split(" custom-call(")
  assert "S(1)" in result  # memory that all devices share
  operand = re.escape(operands.split(",")[0].split(")")[0])
  assert re.search(rf"{operand} = \S*S\(1\)", program.hlo)
  _assert_fits(program)


def test_trap_11_across_nodes_xla_reduces_between_two_kernels():
  program = _compile((2, 4), _kernel("mosaic_gpu", across="xla"))
  first, second = program.instructions("custom-call")
  (between,) = program.instructions("all-reduce-start")
  assert "{{0,4},{1,5},{2,6},{3,7}}" in between
  order = [program.hlo.index(x) for x in (first, between, second)]
  assert order == sorted(order)
  # No kernel stores to another node: 3 messages for each phase.
  assert program.ptx.count("red.release.sys.global.add.u32") == 6


def test_cells_stay_where_they_are_between_calls():
  """A peer may already store to those of the next call."""

  def twice(x):
    state = api.start_low_latency(x, _AXES)
    x, state = api.low_latency_all_reduce(x, state, _AXES)
    return api.low_latency_all_reduce(x, state, _AXES)[0]

  program = _compile((2, 4), twice)
  first, second = program.instructions("custom-call")
  cells = re.search(r"s32\[7,\d+,2\]", first)
  assert cells
  assert cells[0] in second
  assert "output_to_operand_aliasing={{1}: (3, {}), {2}: (4, {})}" in first
  copies = program.instructions("copy") + program.instructions("copy-start")
  assert not [copy for copy in copies if cells[0] in copy]


@_SLOW
@pytest.mark.parametrize(
  "name", ["mosaic_gpu", "mosaic_gpu_ll", "mosaic_gpu_multimem"]
)
def test_one_axis_compiles(name):
  _assert_fits(_compile((8,), _kernel(name, axes=_AXES[1:])))


@_SLOW
@pytest.mark.parametrize("name", ["mosaic_gpu", "mosaic_gpu_ll"])
def test_three_nodes_compile(name):
  """Some exchanges then concern a part of the nodes."""
  _assert_fits(_compile((3, 2), _kernel(name)))


@_SLOW
@pytest.mark.parametrize("grid", _GRIDS)
@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize(
  "name", ["mosaic_gpu", "mosaic_gpu_ll", "mosaic_gpu_multimem"]
)
def test_all_shapes_compile(name, shape, grid):
  _assert_fits(_compile(grid, _kernel(name), shape.like()))
