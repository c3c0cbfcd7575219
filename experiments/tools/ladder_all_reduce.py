"""The hierarchical all-reduce for `experiments.tools.ladder`."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from experiments.tools import ladder_rungs
from kernels_pallas.hierarchical_all_reduce import api, shapes

KERNELS = ("mosaic_gpu", "mosaic_gpu_ll", "mosaic_gpu_multimem")
Grid = tuple[int, int]  # nodes, and devices of each

_AXES = ("node", "local")
_LARGEST = 8  # magnitude of a number: sums over 32 ranks are exact in bfloat16


def rungs(
  chosen: Sequence[shapes.Shape], kernels: Sequence[str] = KERNELS
) -> list[ladder_rungs.Rung]:
  """Every shape over all devices: as one node, and as two if they divide.

  Args:
    chosen: what each device reduces.
    kernels: names of `api.IMPLEMENTATIONS`.

  Returns:
    None where there is one device, which has nothing to exchange.
  """
  count = len(jax.devices())
  grids = [(1, count)] * (count > 1)
  grids += [(2, count // 2)] * (count > 2 and count % 2 == 0)
  return [_rung(shape, grid, kernels) for shape in chosen for grid in grids]


def _rung(
  shape: shapes.Shape, grid: Grid, kernels: Sequence[str]
) -> ladder_rungs.Rung:
  nodes, local = grid
  return ladder_rungs.Rung(
    "hierarchical_all_reduce",
    f"{shape.name} on {nodes}x{local}",
    dataclasses.asdict(shape) | {"nodes": nodes, "local": local},
    functools.partial(check, shape, grid, kernels),
    functools.partial(candidates, shape, grid, kernels),
  )


def make(shape: shapes.Shape, ranks: int, seed: int) -> np.ndarray:
  """Whole numbers, others on each rank, whose sums are exact in any order."""
  like = shape.like()
  numbers = np.random.default_rng(seed).integers(
    -_LARGEST, _LARGEST + 1, (ranks, *like.shape)
  )
  return numbers.astype(like.dtype)


def check(
  shape: shapes.Shape, grid: Grid, kernels: Sequence[str]
) -> Iterator[ladder_rungs.Check]:
  """Compares the sums on every device with numpy's.

  A call with other data follows the first before that is waited for.

  Args:
    shape: what each device reduces.
    grid: nodes, and devices of each.
    kernels: names of `api.IMPLEMENTATIONS`.

  Yields:
    For each whether any element is wrong.
  """
  inputs = [make(shape, grid[0] * grid[1], seed) for seed in (0, 1)]

  def compare(call):
    done = [call(_put(x, grid)) for x in inputs]
    for x, ours in zip(inputs, done, strict=True):
      expected = np.broadcast_to(x.astype(np.float64).sum(0), x.shape)
      wrong = int((np.asarray(ours, np.float64) != expected).sum())
      assert not wrong, f"got {wrong} of {x.size} elements wrong, expected 0"

  for name, call in _calls(grid, kernels).items():
    yield ladder_rungs.judge(
      name, "twice in a row", functools.partial(compare, call)
    )


def candidates(
  shape: shapes.Shape, grid: Grid, kernels: Sequence[str]
) -> dict[str, Callable[[], Any]]:
  """What is timed: the kernels and `lax.psum`.

  Args:
    shape: what each device reduces.
    grid: nodes, and devices of each.
    kernels: names of `api.IMPLEMENTATIONS`.

  Returns:
    Calls by name, as `ladder_rungs.repeat` makes them.
  """
  x = _put(make(shape, grid[0] * grid[1], 0), grid)
  calls = _calls(grid, kernels)
  calls["lax.psum"] = _over(grid, lambda x: lax.psum(x, _AXES))
  return {name: ladder_rungs.repeat(call, x) for name, call in calls.items()}


def _calls(grid: Grid, kernels: Sequence[str]) -> dict[str, Callable]:
  """From `[ranks, ...]` to the sum on each rank, by name."""
  found: dict[str, Callable] = {}
  for name in kernels:
    total = functools.partial(
      api.hierarchical_all_reduce, axes=_AXES, implementation=name
    )
    found[name] = _over(grid, lambda x, total=total: total(x[0])[None])
  if "mosaic_gpu_ll" in kernels:
    found["mosaic_gpu_ll, state kept"] = _kept(grid)
  return found


def _kept(grid: Grid) -> Callable[[jax.Array], jax.Array]:
  """LL as it is meant for loops: a call goes on with the last one's state."""
  start = _over(grid, lambda x: api.start_low_latency(x[0], _AXES))

  def step(x, state):
    total, state = api.low_latency_all_reduce(x[0], state, _AXES)
    return total[None], state

  go_on = _over(grid, step, donate_argnums=1)
  state = []

  def call(x):
    state[:] = state or [start(x)]
    total, state[0] = go_on(x, state[0])
    return total

  return call


def _over(grid: Grid, body: Callable, **options: Any) -> jax.stages.Wrapped:
  """Runs `body` on each rank, with its part of the first axis."""
  spec = jax.P(_AXES)
  mapped = jax.shard_map(
    body, mesh=_mesh(grid), in_specs=spec, out_specs=spec, check_vma=False
  )
  return jax.jit(mapped, **options)


def _put(x: np.ndarray, grid: Grid) -> jax.Array:
  return jax.device_put(x, jax.NamedSharding(_mesh(grid), jax.P(_AXES)))


def _mesh(grid: Grid) -> jax.sharding.Mesh:
  devices = np.array(jax.devices()[: grid[0] * grid[1]]).reshape(grid)
  return jax.sharding.Mesh(devices, _AXES)
