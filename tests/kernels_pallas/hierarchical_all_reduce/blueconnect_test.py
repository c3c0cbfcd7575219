"""XLA's own hierarchy (BlueConnect) and `nvrar`, compiled from one program.

The figures are those of the table in the folder's README, read off the
optimised HLO; nothing is timed.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import collectives
from kernels_pallas import testing

_AXES = ("node", "local")
_LENGTH = 4096  # float32 on each rank
_OPCODES = "reduce-scatter all-reduce all-gather collective-permute".split()


class _Collective(NamedTuple):
  opcode: str
  groups: str  # of ranks, or pairs (source, target)
  bytes: int  # a rank puts in


def _nvrar(x):
  return collectives.all_reduce(x, _AXES, algorithm="nvrar")


def _psum(x):
  return lax.psum(x, _AXES)


def _compile(f, nodes, local, *, blue=False, length=_LENGTH):
  """The collectives of an all-reduce over both axes, as scheduled."""
  mesh = jax.sharding.AbstractMesh((nodes, local), _AXES)
  spec = jax.P(_AXES)
  total = jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=jax.P())
  like = jax.ShapeDtypeStruct(
    (nodes * local * length,),
    jnp.float32,
    sharding=jax.NamedSharding(mesh, spec),
  )
  flag = "xla_gpu_all_reduce_blueconnect_num_devices_per_host"
  program = testing.assert_compiles(
    total,
    like,
    topology=f"1x{nodes}x{local}",
    options={flag: local} if blue else None,
  )
  return _read(program)


def _read(program):
  lines = [
    (op, x) for op in _OPCODES for x in program.instructions(f"{op}-start")
  ]
  lines.sort(key=lambda line: program.hlo.index(line[1]))
  found = []
  for opcode, line in lines:
    groups = re.search(r"(?:groups|pairs)=\{(\{[\d,{}]+\})\}", line)
    shape = re.search(r"= \(*f32\[([\d,]+)\]", line)  # the operand comes first
    assert groups is not None
    assert shape is not None
    size = 4
    for extent in shape[1].split(","):
      size *= int(extent)
    found.append(_Collective(opcode, groups[1], size))
  return found


def test_with_two_nodes_both_reduce_a_quarter_between_nodes():
  blue = _compile(_psum, 2, 4, blue=True)
  ours = _compile(_nvrar, 2, 4)
  within = "{0,1,2,3},{4,5,6,7}"
  scatter = _Collective("reduce-scatter", within, 16384)
  gather = _Collective("all-gather", within, 4096)
  across = "{0,4},{1,5},{2,6},{3,7}"
  assert blue == [scatter, _Collective("all-reduce", across, 4096), gather]
  pairs = "{0,4},{4,0},{1,5},{5,1},{2,6},{6,2},{3,7},{7,3}"
  assert ours == [
    scatter,
    _Collective("collective-permute", pairs, 4096),
    gather,
  ]


@pytest.mark.slow
def test_with_four_nodes_blueconnect_divides_again_and_nvrar_doubles():
  blue = _compile(_psum, 4, 2, blue=True)
  within = "{0,1},{2,3},{4,5},{6,7}"
  near, far = "{0,2},{4,6},{1,3},{5,7}", "{0,4},{2,6},{1,5},{3,7}"
  assert blue == [
    _Collective("reduce-scatter", within, 16384),
    _Collective("reduce-scatter", near, 8192),
    _Collective("all-reduce", far, 4096),
    _Collective("all-gather", near, 4096),
    _Collective("all-gather", within, 8192),
  ]
  first, *steps, last = _compile(_nvrar, 4, 2)
  assert (first, last) == (blue[0], blue[-1])
  assert [(x.opcode, x.bytes) for x in steps] == [
    ("collective-permute", 8192)
  ] * 2
  assert steps[0].groups.startswith("{0,2},{2,0}")
  assert steps[1].groups.startswith("{0,4},")


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "local"), [(2, 4), (4, 2)])
def test_without_the_option_xla_takes_all_ranks_as_one_group(nodes, local):
  everyone = _Collective("all-reduce", "{0,1,2,3,4,5,6,7}", 16384)
  assert _compile(_psum, nodes, local) == [everyone]


@pytest.mark.slow
def test_a_length_that_does_not_divide_is_left_flat_and_padded_by_nvrar():
  flat = _compile(_psum, 2, 4, blue=True, length=4097)
  assert flat == [_Collective("all-reduce", "{0,1,2,3,4,5,6,7}", 16388)]
  padded = [x.bytes for x in _compile(_nvrar, 2, 4, length=4097)]
  assert padded == [16400, 4100, 4100]
