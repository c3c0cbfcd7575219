"""The protocol on host devices: exact sums, no races, and mutants caught."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from kernels_pallas import testing
from kernels_pallas.hierarchical_all_reduce import api, twin, words
from kernels_pallas.hierarchical_all_reduce import plan as plans

_AXES = ("node", "local")


def _mesh(shape, names=_AXES):
  devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
  return jax.sharding.Mesh(devices, names)


def _on(nodes, local, body):
  return _over(_mesh((nodes, local)), body)


def _over(mesh, body):
  spec = jax.P(mesh.axis_names)
  mapped = jax.shard_map(
    body, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
  )
  return jax.jit(mapped)


def _sum(nodes, local, implementation):
  body = functools.partial(
    api.hierarchical_all_reduce, implementation=implementation
  )
  return _on(nodes, local, lambda x: body(x[0])[None])


def _data(ranks, *shape, dtype=jnp.float32, seed=0):
  x = np.random.default_rng(seed).standard_normal((ranks, *shape))
  return jnp.asarray(x, dtype)


def _integers(ranks, *shape, seed=0):
  """Different everywhere, and exact in any order."""
  x = np.random.default_rng(seed).integers(-1000, 1000, (ranks, *shape))
  return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize(
  ("nodes", "local"),
  [
    (1, 2),
    (4, 2),
    (7, 1),
    *(
      pytest.param(*grid, marks=pytest.mark.slow)
      for grid in ((2, 1), (2, 2), (2, 4), (3, 2))
    ),
  ],
)
def test_sums_are_exact_and_free_of_races(nodes, local):
  x = _integers(nodes * local, 1001)
  got = testing.assert_race_free(_sum(nodes, local, "twin"), x, machine="tpu")
  expected = np.broadcast_to(np.asarray(x).sum(0), x.shape)
  np.testing.assert_array_equal(got, expected)


def test_one_axis_is_the_ranks_of_one_node():
  total = functools.partial(
    api.hierarchical_all_reduce, axes=("chip",), implementation="twin"
  )
  x = _integers(3, 100)
  run = _over(_mesh((3,), ("chip",)), lambda x: total(x[0])[None])
  got = testing.assert_race_free(run, x, machine="tpu")
  np.testing.assert_array_equal(got, np.tile(np.asarray(x).sum(0), (3, 1)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_twin_adds_in_the_order_of_the_reference(dtype):
  x = _data(6, 77, 3, dtype=dtype)
  got = testing.assert_race_free(_sum(3, 2, "twin"), x, machine="tpu")
  np.testing.assert_array_equal(got, _sum(3, 2, "reference")(x))
  assert (np.asarray(got) == np.asarray(got)[:1]).all()  # on all devices


@pytest.mark.parametrize("size", [0, 1, 5])
def test_any_length(size):
  x = _integers(4, size)
  got = _sum(2, 2, "reference")(x)
  np.testing.assert_array_equal(got, np.tile(np.asarray(x).sum(0), (4, 1)))


def test_bfloat16_is_rounded_once_for_each_pair():
  x = _data(2, 401, dtype=jnp.bfloat16)
  got = _sum(2, 1, "reference")(x)[0]
  wide = np.asarray(x, np.float32).sum(0)
  np.testing.assert_array_equal(got, wide.astype(ml_dtypes.bfloat16))


def test_trap_06_calls_back_to_back_do_not_mix():
  first, second = _integers(4, 300), _integers(4, 300, seed=1)
  total = functools.partial(api.hierarchical_all_reduce, implementation="twin")

  def twice(x):
    a = total(x[0, 0])
    return jnp.stack([a, total(x[0, 1] + 0 * a)])[None]

  both = jnp.stack([first, second], axis=1)
  got = testing.assert_race_free(_on(4, 1, twice), both, machine="tpu")
  expected = np.broadcast_to(np.asarray(both).sum(0), both.shape)
  np.testing.assert_array_equal(got, expected)


class _OneSlot(twin.Copies):
  """All messages of the doubling go to one slot."""

  def slot(self, exchange):
    return 0


class _NoWait(twin.Copies):
  """Takes what is in the slot, arrived or not; waits too late."""

  def receive(self, exchange, source, part):
    self.take(exchange, part)
    super().arrive(self._copy(exchange, self.total, part, source))


def _doubling(wire, x):
  plan = plans.Plan(4, 1)

  def body(x):
    packed = words.pack(x[0])[None]
    out = twin.all_reduce(packed, plan, _AXES, dtype="float32", wire=wire)
    return words.unpack(out[0], jax.ShapeDtypeStruct(x.shape, x.dtype))

  return _on(4, 1, body)(x)


def test_what_catches_mutants_passes_without_them():
  x = _integers(4, 128)
  run = functools.partial(_doubling, twin.Copies)
  got = testing.assert_race_free(run, x, machine="tpu")
  np.testing.assert_array_equal(got, np.tile(np.asarray(x).sum(0), (4, 1)))


@pytest.mark.parametrize("wire", [_OneSlot, _NoWait])
def test_trap_06_mutants_of_the_twin_race(wire):
  run = functools.partial(_doubling, wire)
  with pytest.raises(AssertionError, match="races, first: (read|write) of"):
    testing.assert_race_free(run, _integers(4, 128), machine="tpu")
