"""A decoder's layers divided over the stages of a pipeline."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int

from research.transformer import attention as attention_lib
from research.transformer import decoder
from research.transformer.checkpoints import model as model_lib

#: The mesh axis of stages.
AXIS = "pipe"


def stack(model: model_lib.Model, stages: int) -> model_lib.Model:
  """Puts the layers that stages run at the same time side by side.

  Stage `s` of `n` layers has layers `s n` to `(s + 1) n - 1`. Where stages do
  not divide the layers, the last ones get layers of zeros, which add nothing to
  the residual stream.

  Args:
    model: the whole model.
    stages: of the pipeline.

  Returns:
    A model of a stage's layers, whose weights have an axis `stage` in front;
    `own_stage` takes it away again.
  """
  blocks = model.state["blocks"]
  each = -(-model.config.num_layers // stages)
  layers = [blocks[i] for i in range(len(blocks))]
  blank = jax.tree.map(jnp.zeros_like, layers[0])
  layers += [blank] * (each * stages - len(layers))
  stacked = {i: _side_by_side(layers[i::each]) for i in range(each)}
  state = nnx.State({**model.state, "blocks": nnx.State(stacked)})
  config = dataclasses.replace(model.config, num_layers=each)
  return model_lib.Model(config, decoder.abstract(config)[0], state)


def own_stage(state: Any) -> Any:
  """Takes the axis of stages off a stage's weights, inside `shard_map`."""
  own = lambda v: v.replace(v[...][0]) if _is_stacked(v) else v
  return jax.tree.map(own, state, is_leaf=_is_variable)


def residual(
  bound: decoder.Decoder,
  x: Float[Array, "m b s e"],
  positions: Int[Array, "m b s"],
  attention: Callable[[jax.Array], attention_lib.Attention],
  states: Sequence[Any],
) -> tuple[Float[Array, "m b s e"], list[Any]]:
  r"""Runs micro-batches through all stages, inside `shard_map`.

  In tick $t$ stage $s$ has micro-batch $t - s$: with $m$ of them and $p$ stages
  there are $m + p - 1$ ticks, of which a stage works in $m$. Before them it
  computes something of the first micro-batch, which writes the same places
  afterwards; behind them it repeats the last one. Collectives want all ranks in
  every tick (a branch would spare the work, but XLA's CPU backend mixes up
  permutes in branches that only some ranks take).

  Args:
    bound: a stage's layers.
    x: embedded micro-batches, on all stages.
    positions: of their tokens.
    attention: from the number of a micro-batch to how its tokens attend.
    states: each of the layers' attention state.

  Returns:
    The residual stream after the last layer, zeros on all stages but the last
    one; and the layers' next states.

  References:
    Huang et al., GPipe, arXiv 1811.06965.
  """
  stages, stage = lax.axis_size(AXIS), lax.axis_index(AXIS)
  follow = [(i, i + 1) for i in range(stages - 1)]
  received, states, done = jnp.zeros_like(x[0]), list(states), []

  for tick in range(len(x) + stages - 1):
    with jax.named_scope(f"tick_{tick}"):
      micro = jnp.clip(tick - stage, 0, len(x) - 1)
      first = x[min(tick, len(x) - 1)]
      out = bound.residual(
        jnp.where(stage == 0, first, received),
        positions=positions[micro],
        attention=attention(micro),
        states=states,
      )
      states = out.states
      received = lax.ppermute(out.hidden, AXIS, follow)
      done.append(out.hidden)
  last = jnp.stack(done[stages - 1 :])
  return jnp.where(stage == stages - 1, last, 0), states


def from_last(x: jax.Array) -> jax.Array:
  """Gives all stages what the last one has, and the others have zeros of."""
  return lax.psum(x, AXIS)


def _side_by_side(layers: Sequence[Any]) -> Any:
  """Stacks equal layers along a new first axis."""

  def join(*variables: nnx.Variable) -> nnx.Variable:
    value = jnp.stack([variable[...] for variable in variables])
    axes = ("stage", *variables[0].get_metadata("axes"))
    return variables[0].replace(value, axes=axes)

  return jax.tree.map(join, *layers, is_leaf=_is_variable)


def _is_variable(x: Any) -> bool:
  return isinstance(x, nnx.Variable)


def _is_stacked(variable: nnx.Variable) -> bool:
  return variable.get_metadata("axes")[0] == "stage"
