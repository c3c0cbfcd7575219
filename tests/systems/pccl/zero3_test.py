"""What ZeRO-3 keeps, and when it gathers."""

import dataclasses
import functools
import re

import jax
import numpy as np
import optax
import pytest

from research import mesh
from research.systems.pccl import objective, zero3
from tests.systems.pccl import cases

# Far more weights than activations, so that what is kept can be told.
_WIDE = dataclasses.replace(
  cases.LLAMA, num_layers=16, embed_dim=16, mlp_dim=128
)


def _trainer(**changes):
  return zero3.Zero3(
    config=_WIDE,
    optimizer=cases.SGD,
    mesh=mesh.make_mesh({"data": 4}),
    axes=("data",),
    **changes,
  )


@functools.cache
def _compiled(trainer, policy="dots_saveable"):
  del policy
  params = functools.partial(objective.parameters, trainer.config)
  state = jax.eval_shape(lambda: trainer.init(params(jax.random.key(0))))
  return trainer.step.lower(state, np.zeros((4, 5), np.int32)).compile()


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_rank_keeps_its_part_of_parameters_and_optimizer(size):
  trainer = dataclasses.replace(
    _trainer(),
    config=cases.LLAMA,
    mesh=mesh.make_mesh({"data": size}),
    optimizer=optax.adam(1e-3),
  )
  params = cases.start(trainer.config)
  whole = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  state = trainer.init(params)
  kept = {device: 0 for device in trainer.mesh.devices.flat}
  for leaf in jax.tree.leaves(state):
    for part in leaf.addressable_shards:
      kept[part.device] += part.data.nbytes
  # Parameters and two moments; a vector's padding; Adam's counter.
  vectors = 2 + trainer.config.num_layers
  for nbytes in kept.values():
    assert 0 <= nbytes - 3 * whole / size <= 3 * vectors * 4 + 4


@pytest.mark.parametrize(("bucket_bytes", "per_layer"), [(None, 1), (11000, 4)])
def test_gathers_are_as_planned(bucket_bytes, per_layer):
  """Embedding and head once, a layer in the forward and backward loop."""
  trainer = _trainer(bucket_bytes=bucket_bytes)
  buckets = {name: len(plan.buckets) for name, plan in trainer.plans.items()}
  assert buckets == {"embedding": 1, "head": 1, "blocks": per_layer}
  text = _compiled(trainer).as_text()
  count = lambda name: len(re.findall(rf" {name}(?:-start)?\(", text))
  assert count("all-gather") == 2 + 2 * per_layer
  assert count("reduce-scatter") == 2 + per_layer
  assert count("all-reduce") == 1  # the loss
  trips = re.findall(r'known_trip_count":{"n":"(\d+)"', text)
  assert trips.count(str(trainer.config.num_layers)) == 2


@pytest.mark.parametrize("policy", ["dots_saveable", "everything_saveable"])
def test_no_layer_is_kept_whole(monkeypatch, policy):
  """Scratch memory is less than the layers; kept weights would show."""
  monkeypatch.setattr(
    jax.checkpoint_policies,
    "dots_saveable",
    getattr(jax.checkpoint_policies, policy),
  )
  trainer = _trainer()
  scratch = _compiled(trainer, policy).memory_analysis().temp_size_in_bytes
  whole = _WIDE.num_layers * trainer.plans["blocks"].nbytes
  assert scratch < whole / 2 if policy == "dots_saveable" else scratch > whole
