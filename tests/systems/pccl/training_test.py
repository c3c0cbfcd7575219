"""Several steps on several ranks are those of one device."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from research import mesh
from research.systems.pccl import ddp, zero3
from tests.systems.pccl import cases

_QWEN = dataclasses.replace(
  cases.LLAMA, tie_embeddings=True, qkv_bias=True, qk_norm=True
)
_ADAM = optax.adamw(1e-2, eps=1e-4)  # below eps, rounding would be a step

# Sums of the same float32 numbers in another order: a weight, at most about 1,
# is off by a few units of 6e-8 a step. Nothing amplifies that within 3 steps.
_TOLERANCE = 2e-6


def _distance(a, b):
  return max(
    float(np.abs(np.asarray(x) - np.asarray(y)).max())
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


@pytest.mark.parametrize(
  ("kind", "shape", "algorithm", "config", "optimizer"),
  [
    (ddp.DataParallel, {"data": 3}, "ring", cases.LLAMA, cases.SGD),
    (ddp.DataParallel, {"node": 2, "local": 2}, "nvrar", _QWEN, _ADAM),
    (ddp.DataParallel, {"data": 8}, "xla", cases.LLAMA, cases.SGD),
    (zero3.Zero3, {"data": 2}, "xla", cases.LLAMA, cases.SGD),
    (zero3.Zero3, {"data": 4}, "bruck", _QWEN, _ADAM),
    (
      zero3.Zero3,
      {"node": 2, "local": 4},
      "pccl_recursive",
      cases.LLAMA,
      cases.SGD,
    ),
  ],
)
def test_trap_13_training_is_that_of_one_device(
  kind, shape, algorithm, config, optimizer
):
  trainer = kind(
    config=config,
    optimizer=optimizer,
    mesh=mesh.make_mesh(shape),
    axes=tuple(shape),
    algorithm=algorithm,
    bucket_bytes=1000,
  )
  start = cases.start(config)
  expected, params = cases.single_device(config, optimizer)
  state, losses = trainer.init(start), []
  for tokens in cases.batches(config):
    state, loss = trainer.step(state, tokens)
    losses.append(float(loss))
  np.testing.assert_allclose(losses, expected, rtol=0, atol=_TOLERANCE)
  trained = trainer.params(state)
  assert jax.tree.structure(trained) == jax.tree.structure(params)
  assert _distance(trained, params) < _TOLERANCE
  # With gradients twice as large, the last weights would be far off.
  assert _distance(start, params) > 1000 * _TOLERANCE
