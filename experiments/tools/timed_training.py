"""What `experiments.tools.time_train_step` times, and how."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from collectives import schedule as sched
from experiments.tools import collective_bytes, timed_collectives
from research.systems.pccl import ddp, objective, zero3
from research.transformer import config as config_lib

#: How to train, by name.
KINDS = {"ddp": ddp.DataParallel, "zero3": zero3.Zero3}

_LEARNING_RATE = 1e-2


@dataclasses.dataclass(frozen=True)
class Case:
  """One kind of training by one algorithm, beside its times.

  Attributes:
    name: such as `zero3:ring`.
    losses: of each step, those to warm up first.
    rank_bytes: that a rank sends in a step, the mean over ranks, as compiled.
    port_bytes: that leave the node which sends most.
    formula_bytes: what a rank has to send, by the sizes of the parameters.
  """

  name: str
  losses: tuple[float, ...]
  rank_bytes: float
  port_bytes: float
  formula_bytes: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench(timed_collectives.Bench):
  """Training steps in the place of collectives; algorithms are cases.

  Attributes:
    model: the decoder.
    rows_per_rank: rows of a batch that a rank has.
    tokens: of a row.
  """

  model: config_lib.DecoderConfig
  rows_per_rank: int
  tokens: int

  def cases(self) -> tuple[list[timed_collectives.Row], list[Case]]:
    """Times all cases, step by step in turns, on one batch again and again.

    Returns:
      Times, whose `size` is that of the parameters, and the rest.
    """
    sizes = _sizes(self.model)
    self._warm(4 * sum(sizes))
    batch = self._batch()
    steps = {name: self._step(name, batch) for name in self.algorithms}
    sent = {name: self._sent(step) for name, step in steps.items()}
    own, free = self._times(steps, batch)
    every = np.array([own[name] for name in steps])
    said = np.asarray(multihost_utils.process_allgather(every))
    slowest = said.reshape(-1, *every.shape).max(0)
    rows, cases = [], []
    for (name, step), times in zip(steps.items(), slowest, strict=True):
      row = self._row(name, sum(sizes), times, 0)
      rows.append(dataclasses.replace(row, free_cores=free))
      cases.append(
        Case(
          name=name,
          losses=tuple(float(loss) for loss in step.losses),
          rank_bytes=sent[name].rank,
          port_bytes=sent[name].port,
          formula_bytes=formula(name.split(":")[0], sizes, self.ranks),
        )
      )
    return rows, cases

  def _step(self, name: str, batch: jax.Array) -> "_Step":
    kind, algorithm = name.split(":")
    trainer = dataclasses.replace(self._trainers[kind], algorithm=algorithm)
    return _Step(trainer, self._starts[kind], batch)

  @functools.cached_property
  def _trainers(self) -> dict[str, Any]:
    """One of each kind that is asked for."""
    kinds = dict.fromkeys(name.split(":")[0] for name in self.algorithms)
    return {
      kind: KINDS[kind](
        config=self.model,
        optimizer=optax.adam(_LEARNING_RATE),
        mesh=self._mesh,
        axes=self._axes,
      )
      for kind in kinds
    }

  @functools.cached_property
  def _starts(self) -> dict[str, Any]:
    """First states, which algorithms share."""
    make = jax.jit(functools.partial(objective.parameters, self.model))
    key = jax.random.key(0, impl="rbg")  # threefry compiles for 3 times as long
    params = jax.tree.map(np.asarray, make(key))
    return {
      kind: trainer.init(params) for kind, trainer in self._trainers.items()
    }

  def _sent(self, step: "_Step") -> collective_bytes.Sent:
    nodes = self.shape.get("node", self.ranks)
    grid = sched.Grid(nodes, self.ranks // nodes)
    return collective_bytes.count(step.compiled.as_text(), grid)

  def _batch(self) -> jax.Array:
    shape = (self.rows_per_rank * self.ranks, self.tokens)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, self.model.vocab_size, shape).astype(np.int32)
    return jax.make_array_from_callback(
      shape,
      NamedSharding(self._mesh, PartitionSpec(self._axes)),
      tokens.__getitem__,
    )


class _Step:
  """A training run that takes one step a call."""

  def __init__(self, trainer: Any, state: Any, batch: jax.Array):
    self.compiled = trainer.step.lower(state, batch).compile()
    self.losses: list[jax.Array] = []
    self._state = state

  def __call__(self, batch: jax.Array) -> Any:
    self._state, loss = self.compiled(self._state, batch)
    self.losses.append(loss)
    return self._state


def formula(kind: str, sizes: tuple[int, int], ranks: int) -> float:
  r"""Returns the bytes that a rank must send in a step.

  An all-reduce of M bytes takes $2 (p - 1) / p \cdot M$ at least, a gather or
  scatter half of that. Data-parallel training reduces every gradient once;
  ZeRO-3 gathers a block twice and scatters its gradients, and gathers what
  comes before and after the blocks once.

  Args:
    kind: `ddp` or `zero3`.
    sizes: parameters within the blocks and outside them, of 4 bytes.
    ranks: p.

  Example:
    >>> formula("ddp", (100, 20), 4), formula("zero3", (100, 20), 4)
    (720.0, 1020.0)
  """
  blocks, rest = sizes
  passes = {"ddp": 2 * (blocks + rest), "zero3": 3 * blocks + 2 * rest}[kind]
  return 4 * passes * (ranks - 1) / ranks


def _sizes(model: config_lib.DecoderConfig) -> tuple[int, int]:
  """Parameters within the blocks, and outside them."""
  shapes = jax.eval_shape(
    functools.partial(objective.parameters, model), jax.random.key(0)
  )
  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  blocks = count(shapes["blocks"])
  return blocks, count(shapes) - blocks
