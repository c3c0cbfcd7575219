"""What the kernels need of PTX and Pallas does not have.

Each is inlined into a Mosaic GPU kernel. `relaxed.sys` is for what a peer polls
and nothing else hangs on; `release` and `acquire` for what other data precedes.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.mosaic import gpu as mgpu
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import arith, llvm

TILE = 512  # words that a block moves at once, 4 for each thread
QUADS = plgpu.Layout.WG_STRIDED((TILE,), vec_size=4)
SINGLES = plgpu.Layout.WG_STRIDED((TILE,), vec_size=1)

_SCALAR = plgpu.Layout.WG_SPLAT


def logical(place: dict[str, Any]) -> jax.Array:
  """The number of a device that differs from this one along some axes."""
  number = jnp.int32(0)
  mesh = jax.sharding.get_abstract_mesh()
  for axis in mesh.axis_names:
    here = place[axis] if axis in place else lax.axis_index(axis)
    number = number * mesh.shape[axis] + here
  return number


def _asm(result: Any, operands: list, code: str, constraints: str) -> Any:
  return llvm.inline_asm(
    result, operands, code, constraints, has_side_effects=True
  )


def _address(base: ir.Value, index: ir.Value, *, bits: int) -> ir.Value:
  """Where the item of a number lies, for items of so many bits."""
  number = arith.index_cast(ir.IntegerType.get_signless(64), index)
  item = ir.IntegerType.get_signless(bits)
  return mgpu.utils.getelementptr(base, [number], item)


@plgpu.inline_mgpu(arg_types=(plgpu.RefType(), QUADS, _SCALAR))
def put_words(context, words, values, peer):
  """Stores words into a peer's memory, 16 bytes at once."""
  there = context.to_remote(words, peer.registers.item())
  base = mgpu.utils.memref_ptr(there)
  i32 = ir.IntegerType.get_signless(32)
  places = values.layout.linear_thread_idxs()
  for quad, first in zip(values.registers.flat, places, strict=True):
    address = _address(base, first, bits=32)
    four = [llvm.extractelement(quad, arith.constant(i32, x)) for x in range(4)]
    _asm(
      ir.Type.parse("!llvm.void"),
      [address, *four],
      "st.global.v4.b32 [$0], {$1, $2, $3, $4};",
      "l,r,r,r,r",
    )


@plgpu.inline_mgpu(arg_types=(plgpu.RefType(), SINGLES, _SCALAR, _SCALAR))
def put_cells(context, cells, values, call, peer):
  """Stores words with the call's number into a peer's cells."""
  there = context.to_remote(cells, peer.registers.item())
  base = mgpu.utils.memref_ptr(there)
  flag = call.registers.item()

  def store(word, index):
    _asm(
      ir.Type.parse("!llvm.void"),
      [_address(base, *index, bits=64), word, flag],
      "{ .reg .b64 cell; mov.b64 cell, {$1, $2};"
      " st.relaxed.sys.global.b64 [$0], cell; }",
      "l,r,r",
    )

  values.foreach(store)


@plgpu.inline_mgpu(
  arg_types=(plgpu.RefType(), SINGLES, _SCALAR),
  return_type=plgpu.ShapeDtypeStruct((TILE,), jnp.int32, layout=SINGLES),
)
def poll_cells(context, cells, like, call):
  """Reads cells until each has the call's number; returns the words."""
  del context
  base = mgpu.utils.memref_ptr(cells)
  flag = call.registers.item()

  def load(word, index):
    return _asm(
      word.type,
      [_address(base, *index, bits=64), flag],
      "{ .reg .b64 cell; .reg .b32 flag; .reg .pred early; POLL:"
      " ld.relaxed.sys.global.b64 cell, [$1]; mov.b64 {$0, flag}, cell;"
      " setp.ne.b32 early, flag, $2; @early bra POLL; }",
      "=r,l,r",
    )

  return like.foreach(load, create_array=True, is_signed=True)


@plgpu.inline_mgpu(arg_types=(plgpu.RefType(), _SCALAR))
def wait_until_equal(context, word, value):
  """Waits until a peer has written a number here."""
  del context
  with mgpu.utils.single_thread(scope=mgpu.ThreadSubset.WARPGROUP):
    _asm(
      ir.Type.parse("!llvm.void"),
      [mgpu.utils.memref_ptr(word), value.registers.item()],
      "{ .reg .b32 seen; .reg .pred early; POLL:"
      " ld.acquire.sys.global.b32 seen, [$0];"
      " setp.ne.b32 early, seen, $1; @early bra POLL; }",
      "l,r",
    )
  mgpu.utils.warpgroup_barrier()


@plgpu.inline_mgpu(arg_types=(plgpu.RefType(), _SCALAR, _SCALAR))
def acknowledge(context, word, call, peer):
  """Tells a peer that its slot has been read, after all threads have."""
  mgpu.utils.warpgroup_barrier()
  there = context.to_remote(word, peer.registers.item())
  with mgpu.utils.single_thread(scope=mgpu.ThreadSubset.WARPGROUP):
    _asm(
      ir.Type.parse("!llvm.void"),
      [mgpu.utils.memref_ptr(there), call.registers.item()],
      "st.release.sys.global.b32 [$0], $1;",
      "l,r",
    )
