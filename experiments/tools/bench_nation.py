"""The nation suite of `experiments.tools.bench`: memory of 330 million agents.

Nothing is run: a town's arrays are made as long as the nation's, by shape
alone, a day of the full model is compiled for one device and for eight, and
XLA's plan of memory is read. It is the plan for CPUs of this machine; one for
GPUs, which cannot be made here, may differ in its temporary arrays. Bytes
between devices are those of the all-reduces in the program.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from experiments.epicast import agents_study
from experiments.tools import epidemic_worker
from research import mesh as mesh_lib
from research.systems.epicast import engine, sharding
from research.systems.epicast.population import build, synthetic
from research.telemetry import bench

_AGENTS = 330_000_000
_TOWN = 100_000
_COMMAND = "python -m experiments.tools.bench --suite=nation"
Suite = Iterator[tuple[str, list[bench.BenchResult]]]


def nation(*, rounds: int) -> Suite:
  """Compiles a day of the nation for one device and for eight.

  Args:
    rounds: not used: nothing is timed.

  Yields:
    A title and its rows, in bytes a device.
  """
  del rounds
  rows = [_row(devices) for devices in (1, 8) if devices <= jax.device_count()]
  yield f"{_AGENTS:,} agents with fear, compiled for CPUs", rows


def _row(devices: int) -> bench.BenchResult:
  world, state = _shapes(devices)
  if devices == 1:
    lowered = engine.run.lower(world, state, days=1)
  else:
    grid = mesh_lib.make_mesh({"data": devices})
    world, state = _spread(grid, world, state)
    lowered = sharding.run.lower(world, state, days=1, mesh=grid)
  plan: Any = lowered.compile().memory_analysis()
  parts = {
    "arguments_gb": plan.argument_size_in_bytes,
    "temporary_gb": plan.temp_size_in_bytes,
    "results_gb": plan.output_size_in_bytes,
    "reduced_gb_a_day": sharding.reduced_bytes(world) * (devices > 1),
  }
  total = float(sum(list(parts.values())[:3]))
  return bench.BenchResult(
    name=f"{devices} devices" if devices > 1 else "1 device",
    unit="B a device",
    median=total,
    p25=total,
    p75=total,
    rounds_kept=0,
    rounds_dropped=0,
    verdict="judged",
    kind="compiled",
    command=_COMMAND,
    meta={name: round(size / 1e9, 2) for name, size in parts.items()},
  )


def _shapes(devices: int) -> tuple[engine.World, engine.State]:
  """A town's world and state with as many agents, and groups, as a nation."""
  town = build.build(*synthetic.region(_TOWN), seed=0)
  fear = epidemic_worker.FEAR.fear()
  world = engine.load(
    town,
    agents_study.HISTORY,
    agents_study.CONTACTS,
    (),
    fear,
    multiple=devices,
  )
  state = engine.start(
    world, agents_study.HISTORY, np.arange(100), fear, seed=0
  )
  present = len(world.agents.age)
  agents = engine.padded(_AGENTS, devices)

  def grow(x: jax.Array) -> jax.ShapeDtypeStruct:
    if not x.ndim or len(x) < len(world.places.community):
      return jax.ShapeDtypeStruct(x.shape, x.dtype)  # counties, rates, keys
    size = agents if len(x) == present else len(x) * (_AGENTS // _TOWN)
    return jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)

  return jax.tree.map(grow, world), jax.tree.map(grow, state)


def _spread(grid: jax.sharding.Mesh, world: Any, state: Any) -> tuple[Any, Any]:
  """Shapes with the places that `sharding.place` would give to arrays."""

  def put(spec: jax.P, part: Any) -> Any:
    where = jax.NamedSharding(grid, spec)
    like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    return jax.tree.map(like, part)

  placed: Callable = lambda specs, tree: jax.tree.map(
    put, specs, tree, is_leaf=lambda x: isinstance(x, jax.P)
  )
  specs = sharding.specs(grid.axis_names, state)
  return placed(specs[0], world), placed(specs[1], state)
