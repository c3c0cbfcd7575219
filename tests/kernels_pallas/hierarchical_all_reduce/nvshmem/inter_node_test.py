"""The call: lowered, compiled with a program around it, and its refusals."""

import jax
import jax.numpy as jnp
import pytest

from kernels_pallas import native_build, testing
from kernels_pallas.hierarchical_all_reduce import api
from kernels_pallas.hierarchical_all_reduce.nvshmem import inter_node, library
from research import mesh as meshes

_AXES = ("node", "local")


@pytest.fixture(autouse=True)
def communicator(monkeypatch):
  """As `start` would open it for two nodes."""
  opened = inter_node.Communicator(index=0, size=2, max_bytes=4096)
  monkeypatch.setitem(inter_node._communicators, "node", opened)


def _program(f, length=8 * 1024, dtype=jnp.bfloat16, nodes=2):
  """`f` on two nodes of four GPUs, and an array for it."""
  mesh = jax.sharding.AbstractMesh((nodes, 8 // nodes), _AXES)
  spec = jax.P(_AXES)
  total = jax.jit(jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec))
  like = jax.ShapeDtypeStruct(
    (length,), dtype, sharding=jax.NamedSharding(mesh, spec)
  )
  return total, like


def _hierarchical(x):
  return api.hierarchical_all_reduce(x, _AXES, implementation="nvshmem")


def _reduce(**how):
  return lambda x: inter_node.inter_node_all_reduce(x, "node", **how)


def test_xla_compiles_the_whole_program_around_the_handler():
  try:
    path = library.build(90)
  except native_build.NativeError as error:
    pytest.skip(str(error))
  total, x = _program(_hierarchical)
  program = testing.assert_compiles(
    total, x, topology="1x2x4", handlers={library.TARGET: path}
  )
  (call,) = program.instructions("custom-call")
  assert f'custom_call_target="{library.TARGET}"' in call
  assert "bf16[256]{0} custom-call(%reduce-scatter-done)" in call
  (scatter,) = program.instructions("reduce-scatter-start")
  (gather,) = program.instructions("all-gather-start")
  for line in (scatter, gather):
    assert "replica_groups={{0,1,2,3},{4,5,6,7}}" in line
  assert not program.instructions("all-reduce-start")


@pytest.mark.slow
def test_without_the_handler_xla_refuses():
  total, x = _program(_hierarchical)
  with pytest.raises(AssertionError, match="No FFI handler registered"):
    testing.assert_compiles(total, x, topology="1x2x4")


@pytest.mark.parametrize(("protocol", "number"), [("ll8", 0), ("simple", 1)])
def test_it_lowers_to_one_call(protocol, number):
  total, x = _program(_reduce(protocol=protocol))
  text = total.trace(x).lower(lowering_platforms=("cuda",)).as_text()
  assert text.count(f"@{library.TARGET}") == 1
  assert f"communicator = 0 : i64, protocol = {number} : i32" in text


def test_a_batch_is_one_call():
  batched = jax.vmap(_reduce())
  total, x = _program(lambda x: batched(x.reshape(4, -1)).reshape(-1))
  text = total.trace(x).lower(lowering_platforms=("cuda",)).as_text()
  assert text.count(f"@{library.TARGET}") == 1
  assert "(tensor<4x256xbf16>) -> tensor<4x256xbf16>" in text


@pytest.mark.parametrize(
  ("f", "how", "message"),
  [
    (_reduce(protocol="ll128"), {}, "protocol: got 'll128', expected one of"),
    (_reduce(), {"dtype": jnp.float16}, "got float16, expected one of"),
    (_reduce(), {"length": 8 * 4096}, "got 8192 bytes, expected at most 4096"),
    (_reduce(), {"nodes": 4}, "got 4 ranks, expected 2"),
    (
      lambda x: inter_node.inter_node_all_reduce(x, "local"),
      {},
      r"got 'local', expected one of \('node',\); call start",
    ),
  ],
)
def test_calls_that_cannot_be_are_refused(f, how, message):
  total, x = _program(f, **how)
  with pytest.raises(ValueError, match=message):
    total.trace(x)


def test_it_starts_only_on_gpus(monkeypatch):
  assert inter_node.unavailable() == "got backend cpu, expected gpu"
  monkeypatch.delitem(inter_node._communicators, "node")
  grid = meshes.make_mesh({"node": 1, "local": 1})
  with pytest.raises(RuntimeError, match="got backend cpu, expected gpu"):
    inter_node.start(grid, "node")


def test_meshes_that_cannot_be_are_refused():
  grid = meshes.make_mesh({"node": 2, "local": 2})
  with pytest.raises(ValueError, match="expected one of each of 1"):
    inter_node.start(grid, "node")
  with pytest.raises(ValueError, match="got 'pipe', expected one of"):
    inter_node.start(grid, "pipe")
