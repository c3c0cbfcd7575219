"""One line each: got, expected, how to mend it."""

import jax
import jax.numpy as jnp
import pytest

import collectives
from tests.collectives import cases


def _try(function, x, sizes=(2, 2)):
  jax.eval_shape(cases.per_rank(function, *sizes), x)


_X = jnp.zeros((4, 8))


@pytest.mark.parametrize(
  ("how", "message"),
  [
    (
      {"axes": "nod"},
      r"all_reduce: got axis 'nod', expected axes of the shard_map around it "
      r"\('node', 'local'\); did you mean 'node'\?",
    ),
    (
      {"algorithm": "nvar"},
      r"algorithm for all_reduce: got 'nvar', expected one of \['auto', 'xla', "
      r"'nvrar_kernel', 'ring', .*\]; did you mean 'nvrar'\?",
    ),
    (
      {"algorithm": "Auto"},
      r"algorithm for all_reduce: got 'Auto', .*; did you mean 'auto'\?",
    ),
    (
      {"algorithm": "xl"},
      r"algorithm for all_reduce: got 'xl', .*; did you mean 'xla'\?",
    ),
    (
      {"axes": "node", "algorithm": "nvrar"},
      r"nvrar has two levels: got axes \('node',\), expected a pair such as "
      r"\('node', 'local'\)",
    ),
    ({"op": "min"}, "op: got 'min', expected 'sum', 'max' or 'mean'"),
    ({"chunks": 0}, "chunks: got 0, expected 1 or more"),
  ],
)
def test_wrong_arguments(how, message):
  how = {"axes": ("node", "local")} | how
  with pytest.raises(ValueError, match=message):
    _try(lambda x, _: collectives.all_reduce(x, **how), _X)


def test_outside_shard_map():
  with pytest.raises(
    ValueError, match=r"got axis 'node', expected axes .*\(\)"
  ):
    collectives.all_reduce(_X, "node")


@pytest.mark.parametrize(
  ("dtype", "op", "message"),
  [
    (bool, "sum", "all_reduce: got dtype bool, expected numbers; cast it"),
    ("complex64", "max", "got dtype complex64 for a maximum, expected real"),
  ],
)
def test_unsupported_dtypes(dtype, op, message):
  with pytest.raises(TypeError, match=message):
    _try(
      lambda x, axes: collectives.all_reduce(
        x.astype(dtype), axes, op=op, algorithm="ring"
      ),
      _X,
    )


@pytest.mark.parametrize("accumulate", ["int32", "bool"])
def test_sums_that_would_lose_fractions(accumulate):
  with pytest.raises(
    TypeError,
    match=f"accumulate: got {accumulate} for float32, expected a dtype that",
  ):
    _try(
      lambda x, axes: collectives.all_reduce(x, axes, accumulate=accumulate),
      _X,
    )


@pytest.mark.parametrize("algorithm", ["xla", "ring"])
def test_shapes_that_do_not_divide(algorithm):
  def scatter(**how):
    return lambda x, axes: collectives.reduce_scatter(
      x, axes, algorithm=algorithm, **how
    )

  with pytest.raises(
    ValueError,
    match=r"reduce_scatter: got shape \(8,\) with 8 along dimension 0, "
    "expected 4, or tiled=True; pad it",
  ):
    _try(scatter(), _X)
  with pytest.raises(ValueError, match="expected a multiple of 3; pad it"):
    _try(scatter(tiled=True), jnp.zeros((3, 8)), (3,))
  with pytest.raises(ValueError, match="scatter_dimension: got 1, expected"):
    _try(scatter(scatter_dimension=1), _X)


def test_maximum_has_no_gradient():
  """As with `lax.pmax`: an error, not a wrong number."""

  def slope(x, axes):
    return jax.grad(
      lambda y: collectives.all_reduce(
        y, axes, op="max", algorithm="ring"
      ).sum()
    )(x)

  with pytest.raises(NotImplementedError, match="schedule_max"):
    _try(slope, _X)
