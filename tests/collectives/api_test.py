"""Results against `lax` and numpy, on meshes of 2 to 8 host devices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import collectives
from collectives import algorithms, executor
from collectives import schedule as sched
from research import mesh
from tests.collectives import cases


def _reduce(name, **how):
  return lambda x, axes: collectives.all_reduce(x, axes, algorithm=name, **how)


@pytest.mark.parametrize(
  ("sizes", "names"),
  [
    ((2,), ["double_tree", "ring"]),
    ((3,), ["recursive_doubling", "ring"]),
    ((4,), ["double_tree", "bruck"]),
    ((5,), ["rabenseifner", "bruck"]),
    ((6,), ["recursive_doubling", "double_tree"]),
    ((7,), ["recursive_doubling", "rabenseifner"]),
    ((8,), ["ring", "rabenseifner", "recursive_doubling", "double_tree"]),
    ((2, 4), ["nvrar", "hierarchical_tree", "pccl_ring", "pccl_recursive"]),
    ((4, 2), ["nvrar", "recursive_doubling"]),
    ((3, 2), ["nvrar", "hierarchical_tree", "pccl_recursive"]),
    ((5, 1), ["nvrar"]),
    ((1, 3), ["nvrar"]),
  ],
)
def test_trap_03_and_4_all_reduce_for_any_number_of_ranks(sizes, names):
  """Rank- and index-dependent data, whose length nothing divides."""
  x = cases.different(sizes, 3, 7)

  def every(x, axes):
    return {name: _reduce(name)(x, axes) for name in names}

  for name, got in cases.per_rank(every, *sizes)(x).items():
    for rank in got:
      np.testing.assert_array_equal(rank, x.sum(0), name)


_LAYOUTS = [
  ((3,), ["ring", "recursive"]),
  ((4,), ["bruck", "recursive"]),
  ((7,), ["bruck"]),
  ((2, 4), ["pccl_ring", "pccl_recursive", "bruck"]),
  ((3, 2), ["pccl_ring", "pccl_recursive"]),
]


@pytest.mark.parametrize(("sizes", "names"), _LAYOUTS)
def test_trap_05_all_gather_is_in_order(sizes, names):
  x = cases.different(sizes, 5, 3)

  def every(x, axes):
    return {
      name: (
        collectives.all_gather(x, axes, axis=1, tiled=True, algorithm=name),
        collectives.all_gather(x, axes, axis=-1, algorithm=name, chunks=2),
      )
      for name in names
    }

  def expected(x, axes):
    return (
      lax.all_gather(x, axes, axis=1, tiled=True),
      lax.all_gather(x, axes, axis=2),
    )

  want = cases.per_rank(expected, *sizes)(x)
  np.testing.assert_array_equal(want[0][0], np.concatenate(x, 1))
  for name, got in cases.per_rank(every, *sizes)(x).items():
    np.testing.assert_array_equal(got[0], want[0], name)
    np.testing.assert_array_equal(got[1], want[1], name)


@pytest.mark.parametrize(("sizes", "names"), _LAYOUTS)
def test_trap_05_reduce_scatter_is_in_order(sizes, names):
  size = math.prod(sizes)
  x = cases.different(sizes, 3, size, 2 * size)

  def every(x, axes):
    return {
      name: (
        collectives.reduce_scatter(
          x, axes, scatter_dimension=-1, tiled=True, algorithm=name
        ),
        collectives.reduce_scatter(
          x, axes, scatter_dimension=1, algorithm=name, chunks=2
        ),
      )
      for name in names
    }

  def expected(x, axes):
    return (
      lax.psum_scatter(x, axes, scatter_dimension=2, tiled=True),
      lax.psum_scatter(x, axes, scatter_dimension=1),
    )

  want = cases.per_rank(expected, *sizes)(x)
  np.testing.assert_array_equal(want[1], x.sum(0).swapaxes(0, 1))
  for name, got in cases.per_rank(every, *sizes)(x).items():
    np.testing.assert_array_equal(got[0], want[0], name)
    np.testing.assert_array_equal(got[1], want[1], name)


@pytest.mark.parametrize(("sizes", "name"), [((3,), "ring"), ((2, 2), "nvrar")])
def test_trap_03_any_length_and_number_of_chunks(sizes, name):
  x = {str(n): cases.different(sizes, n) % 1000 for n in (0, 1, 7, 1001, 10**6)}

  def every(x, axes):
    return [_reduce(name, chunks=chunks)(x, axes) for chunks in (1, 3)]

  done = cases.per_rank(every, *sizes)(x)
  for got in done:
    for length, total in got.items():
      expected = np.broadcast_to(x[length].sum(0), total.shape)
      np.testing.assert_array_equal(total, expected, length)


def test_every_dtype():
  x = cases.different((3,), 7) % 5
  dtypes = ("int8", "uint16", "float16", "bfloat16", "float32", "complex64")

  def every(x, axes):
    return {d: _reduce("ring")(x.astype(d), axes) for d in dtypes}

  for dtype, got in cases.per_rank(every, 3)(x).items():
    assert got.dtype == dtype
    for rank in np.asarray(got, np.complex64):
      np.testing.assert_array_equal(rank, x.sum(0), dtype)


@pytest.mark.parametrize(
  ("dtype", "value"),
  [
    ("float8_e4m3fn", 100),  # 400 is where other formats have infinities
    ("float8_e4m3fn", 2.0**-9),
    ("float8_e3m4", 2.0**-6),
    ("float16", 2.0**-24),
    ("float4_e2m1fn", 1),
  ],
)
def test_short_floats_have_their_largest_and_smallest_numbers(dtype, value):
  x = np.full((4, 3), value, np.float32)

  def every(x, axes):
    y = x.astype(dtype)
    return [_reduce(n)(y, axes).astype("float32") for n in ("xla", "ring")]

  want, got = cases.per_rank(every, 4)(x)
  np.testing.assert_array_equal(got, want)
  np.testing.assert_allclose(got, 4 * value, rtol=0.1)


def test_maximum_and_mean_are_those_of_lax():
  x = cases.different((3, 2), 11)
  halves = x.astype(np.float32) / 4

  def every(x, axes):
    return (
      _reduce("nvrar", op="max")(x, axes),
      lax.pmax(x, axes),
      _reduce("pccl_ring", op="mean")(x, axes),
      lax.pmean(x, axes),
    )

  for values in (x, halves):
    for got, want in (done := cases.per_rank(every, 3, 2)(values)) and (
      done[:2],
      done[2:],
    ):
      assert got.dtype == want.dtype
      np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("axes", [("node", "local"), ("local", "node")])
def test_ranks_are_counted_in_the_order_of_the_axes(axes):
  """Beside another axis; `lax.ppermute` counts in the order of the mesh."""
  x = cases.different((2, 2, 2), 4).reshape(2, 2, 2, 4)

  def every(x):
    x = x[0, 0, 0]
    return [
      part[None, None, None]
      for part in (
        _reduce("pccl_ring")(x, axes),
        lax.psum(x, axes),
        collectives.all_gather(x, axes, algorithm="pccl_ring"),
        lax.all_gather(x, axes),
        collectives.reduce_scatter(x, axes, algorithm="bruck"),
        lax.psum_scatter(x, axes),
      )
    ]

  spec = jax.sharding.PartitionSpec("data", "node", "local")
  grid = mesh.make_mesh({"data": 2, "node": 2, "local": 2})
  done = jax.jit(
    jax.shard_map(every, mesh=grid, in_specs=spec, out_specs=spec)
  )(x)
  for got, want in zip(done[::2], done[1::2], strict=True):
    np.testing.assert_array_equal(got, want)


def test_three_axes_and_no_jit():
  x = cases.different((2, 2, 2), 4).reshape(2, 2, 2, 4)
  spec = jax.sharding.PartitionSpec
  total = jax.shard_map(
    lambda x: _reduce("bruck")(x, ("data", "node", "local"))[0, 0, 0],
    mesh=mesh.make_mesh({"data": 2, "node": 2, "local": 2}),
    in_specs=spec("data", "node", "local"),
    out_specs=spec(),
  )(x)
  np.testing.assert_array_equal(total, x.sum((0, 1, 2)))


def test_xla_is_always_there():
  x = cases.different((2, 2), 4, 4)

  def every(x, axes):
    return (
      collectives.all_reduce(x, axes),
      collectives.all_gather(x, axes, axis=1, tiled=True),
      collectives.reduce_scatter(x, axes, scatter_dimension=1),
    )

  total, gathered, part = cases.per_rank(every, 2, 2)(x)
  np.testing.assert_array_equal(total[2], x.sum(0))
  np.testing.assert_array_equal(gathered[1], np.concatenate(x, 1))
  np.testing.assert_array_equal(part, x.sum(0).T)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
  ("sizes", "names"),
  [
    ((7,), ["recursive_doubling", "double_tree"]),
    ((4,), ["ring", "bruck", "rabenseifner"]),
  ],
)
def test_floats_are_the_same_on_all_ranks_and_as_executed(sizes, names, dtype):
  """The executor, which rounds at every step, agrees to the last bit."""
  x = np.random.default_rng(0).standard_normal((*sizes, 101))
  x = np.asarray(jnp.asarray(x, dtype))

  def every(x, axes):
    return {name: _reduce(name)(x, axes) for name in names}

  for name, got in cases.per_rank(every, *sizes)(x).items():
    schedule = algorithms.find(name, "all_reduce").schedule(
      "all_reduce", sched.Grid(*sizes)
    )
    expected = executor.execute(schedule, x)
    assert (expected == expected[0]).all()
    assert np.asarray(got).tobytes() == expected.tobytes(), name


@pytest.mark.parametrize(
  ("name", "sizes"),
  [
    ("recursive_doubling", (4,)),
    ("recursive_doubling", (5,)),
    ("nvrar", (4, 1)),
    ("nvrar", (2, 2)),
  ],
)
def test_products_are_the_same_on_all_ranks_to_the_last_bit(name, sizes):
  """XLA would add a rank's own product unrounded, but send it rounded."""
  x = cases.different(sizes, 1001)

  def every(x, axes):
    own = x.astype(jnp.float32) / 3  # never a NaN, as LLVM knows
    return [
      _reduce(name, op=op)(value, axes)
      for value in (own, own * own, (own * 1.1).astype(jnp.bfloat16))
      for op in ("sum", "mean")
    ]

  for got in cases.per_rank(every, *sizes)(x):
    assert len({rank.tobytes() for rank in np.asarray(got)}) == 1


def test_two_levels_are_the_same_on_all_ranks_to_the_last_bit():
  x = np.random.default_rng(0).standard_normal((6, 101)).astype(np.float32)

  def every(x, axes):
    names = ("nvrar", "pccl_recursive", "hierarchical_tree")
    return [
      _reduce(name)(x.astype(dtype), axes)
      for name in names
      for dtype in ("float32", "bfloat16")
    ]

  for got in cases.per_rank(every, 3, 2)(x):
    got = np.asarray(got)
    assert all(rank.tobytes() == got[0].tobytes() for rank in got)
    scale = np.abs(x).sum(0)
    error = np.abs(got[0].astype(np.float64) - x.sum(0, np.float64)) / scale
    assert error.max() < 4 * jnp.finfo(got.dtype).eps


def test_trap_07_bfloat16_with_and_without_wide_sums():
  x = np.random.default_rng(0).standard_normal((8, 2000)).astype(np.float32)
  x = np.asarray(jnp.asarray(x, jnp.bfloat16))

  def every(x, axes):
    return (
      _reduce("ring")(x, axes)[:],
      _reduce("ring", accumulate=jnp.float32)(x, axes),
      collectives.reduce_scatter(
        x, axes, tiled=True, algorithm="ring", accumulate=jnp.float32
      ),
    )

  narrow, wide, part = cases.per_rank(every, 8)(x)
  exact = np.asarray(x, np.float64).sum(0)
  assert narrow.dtype == wide.dtype == part.dtype == jnp.bfloat16

  def error(got):
    return np.abs(np.asarray(got, np.float64).reshape(-1)[:2000] - exact)

  assert error(wide).mean() < 0.6 * error(narrow).mean()
  rounded = np.asarray(jnp.asarray(exact, jnp.bfloat16), np.float64)
  assert (np.asarray(wide[0], np.float64) == rounded).mean() > 0.99
  assert (error(part) == error(wide)).all()


def test_inside_loops_and_maps():
  x = cases.different((2, 2), 4, 3)

  def every(x, axes):
    add = _reduce("nvrar")

    def step(carry, row):
      return carry + 1, add(row, axes)

    def gather(column):
      return collectives.all_gather(column, axes, algorithm="pccl_ring")

    def scatter(column):
      return collectives.reduce_scatter(
        column, axes, tiled=True, algorithm="pccl_ring"
      )

    return (
      lax.scan(step, 0, x)[1],
      jax.vmap(lambda column: add(column, axes), 1)(x),
      jax.vmap(gather, 1, 2)(x),
      jax.vmap(scatter, 1)(x),
    )

  scanned, mapped, gathered, part = cases.per_rank(every, 2, 2)(x)
  np.testing.assert_array_equal(scanned[0], x.sum(0))
  np.testing.assert_array_equal(mapped[3], x.sum(0).T)
  np.testing.assert_array_equal(gathered[1], x)
  np.testing.assert_array_equal(part[:, :, 0], x.sum(0))


@pytest.mark.parametrize("algorithm", ["xla", "pccl_ring"])
@pytest.mark.parametrize("sizes", [(2, 2), (1, 1)])
def test_trap_03_empty_arrays_stay_empty(algorithm, sizes):
  """Joined along an empty dimension too, which XLA refuses."""

  def every(x, axes):
    how = {"axes": axes, "algorithm": algorithm}
    return (
      collectives.all_reduce(x, op="mean", **how),
      collectives.all_gather(x, axis=-1, **how),
      collectives.all_gather(x, tiled=True, **how),
      collectives.reduce_scatter(x, tiled=True, **how),
      collectives.reduce_scatter(x, scatter_dimension=1, **how),
    )

  p = math.prod(sizes)
  done = cases.per_rank(every, *sizes)(jnp.zeros((p, 0, p), jnp.float32))
  shapes = [part.shape[1:] for part in done]
  assert shapes == [(0, p), (0, p, p), (0, p), (0, p), (0,)]


def test_pytrees_and_one_rank():
  x = {"a": jnp.arange(3.0), "b": (jnp.ones((2, 2)),)}
  grid = cases.mesh_of(1, 1)
  spec = jax.sharding.PartitionSpec()
  done = jax.shard_map(
    lambda x: _reduce("nvrar", op="mean")(x, ("node", "local")),
    mesh=grid,
    in_specs=spec,
    out_specs=spec,
  )(x)
  assert jax.tree.structure(done) == jax.tree.structure(x)
  np.testing.assert_array_equal(done["a"], x["a"])
