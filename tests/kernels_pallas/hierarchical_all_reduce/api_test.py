"""What the entry takes, falls back to, and refuses."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from kernels_pallas import implementations
from kernels_pallas.hierarchical_all_reduce import api, domain
from kernels_pallas.hierarchical_all_reduce.nvshmem import inter_node, library

_AXES = ("node", "local")


def _map(body, *, names=_AXES, shape=(2, 2), fake=False):
  mesh = jax.sharding.AbstractMesh(shape, names)
  if not fake:
    devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
    mesh = jax.sharding.Mesh(devices, names)
  spec = jax.P(names)
  return jax.shard_map(
    body, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
  )


def _call(x, *, names=_AXES, shape=(2, 2), **kwargs):
  body = functools.partial(api.hierarchical_all_reduce, **kwargs)
  return jax.eval_shape(_map(body, names=names, shape=shape, fake=True), x)


def _gpus(monkeypatch, domains, capability="9.0"):
  """Makes JAX say that it has GPUs, in these peer-to-peer domains."""
  devices = [
    types.SimpleNamespace(
      id=i,
      process_index=x,
      partition_index=x,
      compute_capability=capability,
    )
    for i, x in enumerate(domains)
  ]
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(jax, "devices", lambda: devices)


def test_without_a_gpu_xla_reduces_and_one_line_says_so(caplog, monkeypatch):
  monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
  implementations._say_once.cache_clear()
  total = jax.jit(_map(api.hierarchical_all_reduce))
  with caplog.at_level("INFO", logger="absl"):
    for _ in range(2):
      x = jnp.arange(8.0)
      np.testing.assert_array_equal(total(x), [12.0, 16.0] * 4)
  lines = [x for x in caplog.messages if "hierarchical_all_reduce takes" in x]
  assert len(lines) == 1
  assert "all_reduce" in total.lower(x).as_text()


def test_trap_11_a_pointer_does_not_cross_a_network(monkeypatch):
  _gpus(monkeypatch, [0, 0, 1, 1])
  x = jnp.zeros(8)
  for name in ("mosaic_gpu", "mosaic_gpu_ll", "mosaic_gpu_multimem"):
    with pytest.raises(
      implementations.UnsupportedError, match="domains \\[0, 1\\]"
    ):
      _call(x, implementation=name)
  _call(x, implementation="mosaic_gpu", across="xla")


def test_trap_11_nor_within_a_node_where_there_is_no_link(monkeypatch):
  _gpus(monkeypatch, [0, 1, 2, 3])
  with pytest.raises(
    implementations.UnsupportedError, match="'local',\\): got ranks in"
  ):
    _call(jnp.zeros(8), implementation="mosaic_gpu", across="xla")


def test_trap_11_one_domain_of_several_hosts_is_within_reach(monkeypatch):
  _gpus(monkeypatch, [5, 5, 5, 5])
  for name in ("mosaic_gpu", "mosaic_gpu_ll", "mosaic_gpu_multimem"):
    assert _call(jnp.zeros(8), implementation=name).shape == (8,)


def test_the_default_does_without_the_kernel_across_a_network(
  monkeypatch, caplog
):
  monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
  _gpus(monkeypatch, [0, 0, 1, 1])
  with caplog.at_level("INFO", logger="absl"):
    assert _call(jnp.zeros(8)).shape == (8,)
  assert any("without mosaic_gpu" in line for line in caplog.messages)


def test_the_default_then_takes_nvshmem_if_it_was_started(monkeypatch, caplog):
  monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
  _gpus(monkeypatch, [0, 0, 1, 1])

  def lowered(x):
    total = jax.jit(_map(api.hierarchical_all_reduce, fake=True))
    program = total.trace(x).lower(lowering_platforms=("cuda",)).as_text()
    return library.TARGET in program, "stablehlo.all_reduce" in program

  odd = jnp.zeros(12)  # 3 for each: 2 local ranks do not divide it
  opened = inter_node.Communicator(index=0, size=2, max_bytes=8)
  with caplog.at_level("INFO", logger="absl"):
    assert lowered(odd) == (False, True)
    monkeypatch.setitem(inter_node._communicators, "node", opened)
    assert lowered(odd) == (True, False)
    assert lowered(jnp.zeros(20)) == (False, True)
  reasons = [line for line in caplog.messages if "without nvshmem" in line]
  assert len(reasons) == 2
  assert "call start(mesh, axis)" in reasons[0]
  assert "got 12 bytes, expected at most 8" in reasons[1]


def test_mosaic_is_not_given_gpus_before_hopper(monkeypatch):
  _gpus(monkeypatch, [0] * 4, capability="8.0")
  for name in ("mosaic_gpu", "mosaic_gpu_ll", "mosaic_gpu_multimem"):
    with pytest.raises(
      implementations.UnsupportedError,
      match="got a GPU of compute capability 8.0, expected 9.0 or more",
    ):
      _call(jnp.zeros(8), implementation=name)
  assert _call(jnp.zeros(8)).shape == (8,)


@pytest.mark.parametrize("across", ["kernel", "xla"])
def test_trap_11_one_axis_is_one_node(monkeypatch, across):
  call = functools.partial(
    _call,
    jnp.zeros(8),
    names=("chip",),
    shape=(4,),
    axes=("chip",),
    across=across,
    implementation="mosaic_gpu",
  )
  _gpus(monkeypatch, [1] * 4)
  assert call().shape == (8,)
  _gpus(monkeypatch, [0, 0, 1, 1])
  with pytest.raises(implementations.UnsupportedError, match=r"\[0, 1\]"):
    call()


def test_a_third_axis_keeps_its_ranks_apart():
  domains = np.array([[[0, 0], [1, 1]], [[0, 0], [1, 1]]])
  names = ("data", "node", "local")
  domain.check_reach(domains, names, ("data", "local"))
  with pytest.raises(implementations.UnsupportedError, match=r"\[0, 1\]"):
    domain.check_reach(domains, names, ("node", "local"))


def test_a_process_is_a_domain_where_jax_names_none():
  device = types.SimpleNamespace(process_index=3)
  assert domain.domain_of(device) == 3


def test_multimem_needs_the_whole_mesh():
  with pytest.raises(implementations.UnsupportedError, match="all of the mesh"):
    _call(
      jnp.zeros(8),
      names=("data", *_AXES),
      shape=(1, 2, 2),
      axes=_AXES,
      implementation="mosaic_gpu_multimem",
    )


@pytest.mark.parametrize(
  ("x", "kwargs", "message"),
  [
    (jnp.zeros(8, jnp.int32), {}, "x: got int32, expected one of"),
    (
      jnp.zeros(8),
      {"axes": ("node", "chip")},
      "axes: got .*expected one, or a pair",
    ),
    (jnp.zeros(8), {"axes": ("node", "node")}, "axes: got"),
    (jnp.zeros(8), {"axes": ()}, "axes: got"),
    (jnp.zeros(8), {"across": "tcp"}, "across: got 'tcp'"),
    (jnp.zeros(8), {"implementation": "nccl"}, "implementation: got .*nccl"),
    (jnp.zeros(8), {"implementation": ()}, "expected names out of"),
  ],
)
def test_bad_arguments_are_named(x, kwargs, message):
  with pytest.raises(ValueError, match=message):
    _call(x, **kwargs)


def test_another_arrays_state_is_refused():
  def body(x):
    state = api.start_low_latency(x, _AXES)
    return api.low_latency_all_reduce(jnp.zeros(4096), state, _AXES)[0]

  with pytest.raises(ValueError, match="state: got cells of shape"):
    jax.eval_shape(_map(body), jnp.zeros(8))
