"""`nvrar_kernel`: what it runs where, and what it refuses."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import collectives
from collectives import dispatch, kernels
from collectives import schedule as sched
from kernels_pallas import testing
from kernels_pallas.hierarchical_all_reduce import api
from kernels_pallas.hierarchical_all_reduce.nvshmem import inter_node, library
from tests.collectives import cases

_NAME = "nvrar_kernel"


def _total(*sizes, **how):
  return cases.per_rank(
    lambda x, axes: collectives.all_reduce(x, axes, algorithm=_NAME, **how),
    *sizes,
  )


def _program(monkeypatch, domains, *sizes):
  """The program for GPUs in these peer-to-peer domains, never run."""
  devices = [
    types.SimpleNamespace(
      id=i, process_index=x, partition_index=x, compute_capability="9.0"
    )
    for i, x in enumerate(domains)
  ]
  names = ("node", "local")[: len(sizes)]
  mesh = jax.sharding.AbstractMesh(sizes, names)
  total = jax.shard_map(
    lambda x: collectives.all_reduce(x, names, algorithm=_NAME),
    mesh=mesh,
    in_specs=P(names),
    out_specs=P(),
  )
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(jax, "devices", lambda: devices)
  traced = jax.jit(total).trace(jnp.zeros(4 * 64))
  return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("sizes", [(2, 2), (4,)], ids=str)
def test_on_gpus_it_is_one_kernel(monkeypatch, sizes):
  text = _program(monkeypatch, [0] * 4, *sizes)
  assert text.count("stablehlo.custom_call @mosaic_gpu") == 1
  assert "stablehlo.all_reduce" not in text
  assert "stablehlo.collective_permute" not in text


def test_trap_11_across_a_network_xla_takes_its_place(monkeypatch):
  text = _program(monkeypatch, [0, 0, 1, 1], 2, 2)
  assert "mosaic_gpu" not in text
  assert text.count("stablehlo.all_reduce") == 1


def test_across_a_network_it_is_nvshmem_where_that_was_started(monkeypatch):
  opened = inter_node.Communicator(index=0, size=2, max_bytes=4096)
  monkeypatch.setitem(inter_node._communicators, "node", opened)
  text = _program(monkeypatch, [0, 0, 1, 1], 2, 2)
  assert text.count(f"@{library.TARGET}") == 1
  assert "stablehlo.all_reduce" not in text


@pytest.mark.parametrize("sizes", [(3, 2), (4,)], ids=str)
def test_the_protocol_sums_and_does_not_race(monkeypatch, sizes):
  """Its twin, in the place of `lax.psum`; a primitive holds no interpreter."""
  monkeypatch.setitem(api.IMPLEMENTATIONS, "xla", api.IMPLEMENTATIONS["twin"])
  x = cases.different(sizes, 5, 7).astype(np.float32)
  total = cases.per_rank(kernels.all_reduce, *sizes, check_vma=False)
  got = testing.assert_race_free(total, x, machine="tpu")
  np.testing.assert_array_equal(got, np.broadcast_to(x.sum(0), x.shape))


def test_elsewhere_it_is_psum_and_everything_else_is_as_ever():
  x = cases.different((2, 2), 3, 5).astype(np.float32)
  tree = {"a": x, "b": x[:, 0] + 1, "none": x[:, :0]}
  got = _total(2, 2, op="mean")(tree)
  for name, leaf in tree.items():
    expected = np.broadcast_to(leaf.mean(0), leaf.shape)
    np.testing.assert_allclose(got[name], expected, rtol=1e-6, err_msg=name)
  halves = jnp.asarray(x, jnp.bfloat16)
  wide = _total(2, 2, accumulate=jnp.float32)(halves)
  assert wide.dtype == jnp.bfloat16
  alone = _total(1, 1)(x[:1])
  np.testing.assert_array_equal(alone, x[:1])


@pytest.mark.parametrize(
  ("how", "error", "message"),
  [
    (
      {"op": "max"},
      ValueError,
      "op: got 'max' for nvrar_kernel, expected 'sum' or 'mean'",
    ),
    (
      {"chunks": 2},
      ValueError,
      "chunks: got 2 for nvrar_kernel, expected 1",
    ),
    (
      {"accumulate": jnp.float16},
      TypeError,
      "nvrar_kernel: got dtype float16, expected float32 or bfloat16; cast it",
    ),
  ],
)
def test_what_it_does_not_do_is_refused(how, error, message):
  with pytest.raises(error, match=message):
    jax.eval_shape(_total(2, 2, **how), jnp.zeros((4, 8), jnp.bfloat16))


def test_three_axes_are_refused():
  names = ("pod", "node", "local")
  mesh = jax.sharding.AbstractMesh((1, 2, 2), names)
  total = jax.shard_map(
    lambda x: collectives.all_reduce(x, names, algorithm=_NAME),
    mesh=mesh,
    in_specs=P(names),
    out_specs=P(),
  )
  with pytest.raises(ValueError, match="expected one, or a pair such as"):
    jax.eval_shape(total, jnp.zeros(8))


def test_it_only_sums():
  with pytest.raises(
    ValueError, match=r"all_gather: got 'nvrar_kernel', expected one of"
  ):
    jax.eval_shape(
      cases.per_rank(
        lambda x, axes: collectives.all_gather(x, axes, algorithm=_NAME), 2, 2
      ),
      jnp.zeros((4, 8)),
    )


def test_auto_never_takes_it(monkeypatch):
  """Not even if told so: what `auto` reduces may be a maximum or integers."""
  monkeypatch.setenv(dispatch.environment.ALGORITHM, _NAME)
  with pytest.raises(ValueError, match="got 'nvrar_kernel', expected one of"):
    dispatch.resolve(
      "all_reduce", 1024, "float32", sched.Grid(2, 2), two_axes=True
    )
