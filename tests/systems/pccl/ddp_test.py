"""The buckets of data-parallel training."""

import functools
import re

import jax
import numpy as np

from research import mesh
from research.systems.pccl import ddp, objective
from tests.systems.pccl import cases


def _trainer(**changes):
  return ddp.DataParallel(
    config=cases.LLAMA,
    optimizer=cases.SGD,
    mesh=mesh.make_mesh({"data": 2}),
    axes=("data",),
    **changes,
  )


def test_buckets_go_in_the_order_in_which_gradients_are_ready():
  """The program that autodiff makes has the last layers' gradients first."""
  config, params = cases.LLAMA, cases.start(cases.LLAMA)
  program = jax.make_jaxpr(jax.grad(functools.partial(objective.loss, config)))(
    params, cases.batches(config)[0]
  ).jaxpr
  made = {
    var: index
    for index, equation in enumerate(program.eqns)
    for var in equation.outvars
  }
  ready: dict[int, list[int]] = {}
  paths = jax.tree_util.tree_leaves_with_path(params)
  for (path, _), var in zip(paths, program.outvars, strict=True):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    turn = ddp.first_use(config.num_layers, name)
    ready.setdefault(turn, []).append(made[var])
  last_first = sorted(ready, reverse=True)
  assert len(last_first) == config.num_layers + 3
  for later, earlier in zip(last_first, last_first[1:], strict=False):
    assert max(ready[later]) < min(ready[earlier])
  sent = [
    ddp.first_use(config.num_layers, piece.path)
    for bucket in _trainer(bucket_bytes=1000).plan.buckets
    for piece in bucket.pieces
  ]
  assert sent == sorted(sent, reverse=True)


def test_a_step_has_one_all_reduce_a_bucket_and_one_for_the_loss():
  tokens = cases.batches(cases.LLAMA)[0]
  for bucket_bytes, buckets in ((1000, 8), (1 << 20, 1)):
    trainer = _trainer(bucket_bytes=bucket_bytes)
    assert len(trainer.plan.buckets) == buckets
    state = jax.eval_shape(trainer.init, cases.start(cases.LLAMA))
    text = trainer.step.lower(state, tokens).as_text()
    assert len(re.findall("stablehlo.all_reduce", text)) == buckets + 1


def test_every_rank_has_everything():
  state = _trainer().init(cases.start(cases.LLAMA))
  for leaf in jax.tree.leaves(state):
    assert {s.data.shape for s in leaf.addressable_shards} == {np.shape(leaf)}
