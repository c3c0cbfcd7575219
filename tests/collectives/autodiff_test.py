"""Trap 13: gradients, against one device that has everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import collectives
from tests.collectives import cases

_SIZES = (2, 2)
_RNG = np.random.default_rng(0)
_X = _RNG.standard_normal((4, 4, 3)).astype(np.float32)
_W = _RNG.standard_normal((4, 3)).astype(np.float32)


def _forms(x, axes, algorithms):
  """All collectives in one differentiable function of this rank's array."""
  reduced, moved = algorithms
  return {
    "reduce": collectives.all_reduce(x**2, axes, algorithm=reduced),
    "mean": collectives.all_reduce(x, axes, op="mean", algorithm=reduced),
    "gather": collectives.all_gather(jnp.sin(x), axes, axis=1, algorithm=moved),
    "scatter": collectives.reduce_scatter(
      x**3, axes, tiled=True, algorithm=moved, chunks=2
    ),
  }


def _single(x):
  """The same of `[ranks, ...]` without any collective."""
  ranks = len(x)
  return {
    "reduce": jnp.stack([(x**2).sum(0)] * ranks),
    "mean": jnp.stack([x.mean(0)] * ranks),
    "gather": jnp.stack([jnp.sin(x).swapaxes(0, 1)] * ranks),
    "scatter": (x**3).sum(0)[:, None],
  }


def _loss(done):
  """Weighs every number differently."""
  total = jnp.float32(0)
  for value in jax.tree.leaves(done):
    weights = jnp.cos(jnp.arange(value.size, dtype=jnp.float32))
    total += (value.reshape(-1) * weights).sum()
  return total


@pytest.mark.parametrize("check_vma", [True, False])
def test_trap_13_gradients_from_outside(check_vma):
  function = cases.per_rank(
    lambda x, axes: _forms(x, axes, ("nvrar", "pccl_recursive")),
    *_SIZES,
    check_vma=check_vma,
  )
  loss, slope = jax.value_and_grad(lambda x: _loss(function(x)))(_X)
  want, expected = jax.value_and_grad(lambda x: _loss(_single(x)))(_X)
  np.testing.assert_allclose(loss, want, rtol=1e-5)
  np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)


def test_derivatives_forwards():
  function = cases.per_rank(
    lambda x, axes: _forms(x, axes, ("recursive_doubling", "bruck")), *_SIZES
  )
  tangent = np.ones_like(_X)
  _, got = jax.jvp(function, (_X,), (tangent,))
  _, expected = jax.jvp(_single, (jnp.asarray(_X),), (jnp.asarray(tangent),))
  for name in expected:
    np.testing.assert_allclose(
      got[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name
    )


@pytest.mark.parametrize("algorithm", ["xla", "nvrar", "ring", "nvrar_kernel"])
def test_trap_13_gradients_inside_are_not_doubled(algorithm):
  """A tensor-parallel loss: weights everywhere, rows of x on their rank."""

  def slope(x, w, axes):
    def loss(w):
      part = (jnp.sin(x) * w).sum(0)
      return (
        collectives.all_reduce(part, axes, algorithm=algorithm) ** 2
      ).sum()

    return jax.grad(loss)(w)

  mesh = cases.mesh_of(*_SIZES)
  spec = jax.sharding.PartitionSpec
  got = jax.jit(
    jax.shard_map(
      lambda x, w: slope(x[0], w, mesh.axis_names),
      mesh=mesh,
      in_specs=(spec(mesh.axis_names), spec()),
      out_specs=spec(),
    )
  )(_X, _W)
  expected = jax.grad(
    lambda w: ((jnp.sin(_X) * w[None]).sum((0, 1)) ** 2).sum()
  )
  np.testing.assert_allclose(got, expected(jnp.asarray(_W)), rtol=1e-4)


def test_unchecked_gradients_inside_are_those_of_psum():
  """Without `check_vma` every rank's result counts, in `lax` as here."""

  def slope(reduce):
    return cases.per_rank(
      lambda x, axes: jax.grad(lambda y: (reduce(y, axes) ** 2).sum())(x),
      *_SIZES,
      check_vma=False,
    )(_X)

  ours = slope(
    lambda y, axes: collectives.all_reduce(y, axes, algorithm="nvrar")
  )
  np.testing.assert_allclose(ours, slope(lax.psum), rtol=1e-5)
