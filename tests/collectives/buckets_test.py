"""Plans are right as data, and gradients are reduced as they say."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from collectives import buckets
from tests.collectives import cases

_F32, _BF16 = jnp.float32, jnp.bfloat16


def _shaped(**leaves):
  """Leaves from `(dtype, *shape)`."""
  return {
    name: jax.ShapeDtypeStruct(tuple(shape), dtype)
    for name, (dtype, *shape) in leaves.items()
  }


def _names(plan):
  return [[piece.path for piece in bucket.pieces] for bucket in plan.buckets]


def test_last_layers_go_first():
  tree = _shaped(a=(_F32, 4), b=(_F32, 2, 2), c=(_F32,))
  assert _names(buckets.plan(tree, max_bytes=20)) == [["c", "b"], ["a"]]
  by_use = buckets.plan(tree, max_bytes=20, first_use="bca".index)
  assert _names(by_use) == [["a", "c"], ["b"]]
  assert _names(buckets.plan(tree)) == [["c", "b", "a"]]


def test_a_bucket_has_one_dtype_and_goes_when_it_is_complete():
  tree = _shaped(
    a=(_F32, 2), b=(_BF16, 2), c=(_F32, 2), d=(_BF16, 2), e=(_F32, 2)
  )
  plan = buckets.plan(tree, max_bytes=16)
  assert _names(plan) == [["e", "c"], ["d", "b"], ["a"]]
  assert [b.dtype for b in plan.buckets] == ["float32", "bfloat16", "float32"]


def test_a_large_array_is_cut():
  plan = buckets.plan(_shaped(a=(_F32, 3), b=(_F32, 5, 5)), max_bytes=40)
  assert str(plan).splitlines() == [
    "3 buckets, 2 arrays, 112 bytes",
    "0: 40 bytes float32: b[0:10]",
    "1: 40 bytes float32: b[10:20]",
    "2: 32 bytes float32: b[20:25], a",
  ]


@pytest.mark.parametrize("max_bytes", [4, 13, 100, 1000, None])
def test_every_element_is_in_one_bucket_and_comes_back(max_bytes):
  rng = np.random.default_rng(0)
  dtypes = ("float32", "bfloat16", "int32")
  tree = [
    jnp.asarray(rng.integers(-99, 99, rng.integers(0, 5, rank)), dtypes[i % 3])
    for i, rank in enumerate(rng.integers(0, 4, 15).tolist())
  ]
  plan = buckets.plan(tree, max_bytes=max_bytes)
  seen = sorted(
    (piece.leaf, element)
    for bucket in plan.buckets
    for piece in bucket.pieces
    for element in range(piece.start, piece.start + piece.size)
  )
  assert seen == [
    (i, e) for i, leaf in enumerate(tree) for e in range(leaf.size)
  ]
  assert plan.nbytes == sum(leaf.nbytes for leaf in tree)
  vectors = plan.pack(tree)
  for bucket, vector in zip(plan.buckets, vectors, strict=True):
    assert (str(vector.dtype), vector.nbytes) == (bucket.dtype, bucket.nbytes)
    assert max_bytes is None or vector.nbytes <= max_bytes
  for got, want in zip(plan.unpack(vectors), tree, strict=True):
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def test_plans_are_values():
  tree = _shaped(a=(_F32, 4), b=(_F32, 2))
  plan, again = buckets.plan(tree), buckets.plan(tree)
  assert plan == again
  assert hash(plan) == hash(again)
  assert plan != buckets.plan(tree, max_bytes=4)
  assert buckets.plan({}).pack({}) == ()


@pytest.mark.parametrize(
  ("tree", "message"),
  [
    ({"a": jnp.ones(3)}, r"a: got float32 \(3,\), expected float32 \(2,\) as"),
    ({"a": jnp.ones(2, jnp.int32)}, r"a: got int32 \(2,\), expected float32"),
    ({"b": jnp.ones(2)}, "got a tree .*'b'.*, expected .*'a'.*; plan it anew"),
  ],
)
def test_what_was_not_planned_is_refused(tree, message):
  with pytest.raises(ValueError, match=message):
    buckets.plan({"a": jnp.ones(2)}).pack(tree)


def test_a_bucket_holds_an_element():
  with pytest.raises(ValueError, match="got 3, expected at least 4, one float"):
    buckets.plan({"a": jnp.ones(2)}, max_bytes=3)


def _tree(row):
  """Of one rank's vector of 12: three arrays, two of which fill a bucket."""
  return {"a": row[:6].reshape(2, 3), "b": row[6:10], "c": row[10:]}


@pytest.mark.parametrize(
  ("sizes", "names"),
  [((3,), ["xla", "ring", "bruck"]), ((2, 2), ["nvrar", "pccl_ring"])],
)
@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_are_reduced(sizes, names, check_vma):
  x = cases.different(sizes, 12).astype(np.float32)
  plan = buckets.plan(_tree(x[0]), max_bytes=24)

  def every(row, axes):
    return [
      buckets.reduce_gradients(
        _tree(row), axes, plan, op=op, algorithm=name, chunks=2
      )
      for name in names
      for op in ("sum", "mean")
    ]

  done = cases.per_rank(every, *sizes, check_vma=check_vma)(x)
  for got, total in zip(done, [x.sum(0), x.mean(0)] * len(names), strict=True):
    for leaf, want in zip(
      jax.tree.leaves(got), jax.tree.leaves(_tree(total)), strict=True
    ):
      for rank in leaf:
        np.testing.assert_allclose(rank, want, rtol=1e-6)


def test_one_collective_a_bucket():
  x = cases.different((4,), 12).astype(np.float32)
  for max_bytes, count in ((None, 1), (24, 2), (16, 4)):
    plan = buckets.plan(_tree(x[0]), max_bytes=max_bytes)
    assert len(plan.buckets) == count
    reduce = cases.per_rank(
      lambda row, axes, plan=plan: buckets.reduce_gradients(
        _tree(row), axes, plan
      ),
      4,
    )
    text = reduce.lower(x).as_text()
    assert len(re.findall("stablehlo.all_reduce", text)) == count


@pytest.mark.parametrize("mark", [("node", "local"), ("node",), ()])
def test_trap_13_gradients_that_autodiff_summed_are_refused(mark):
  """Reduced again they would be multiplied by the number of ranks."""
  x = cases.different((2, 2), 3).astype(np.float32)
  w = jnp.ones(3)
  plan = buckets.plan(w)

  def reduced(row, axes):
    own = lax.pcast(w, mark, to="varying") if mark else w
    slope = jax.grad(lambda w: (w * row).sum())(own)
    return buckets.reduce_gradients(slope, axes, plan, op="sum")

  function = cases.per_rank(reduced, 2, 2, out="same")
  if mark == ("node", "local"):
    np.testing.assert_array_equal(function(x), x.sum(0))
    return
  missing = re.escape(str(("node", "local")[len(mark) :]))
  with pytest.raises(ValueError, match=f"same on all ranks of {missing}"):
    function(x)
