"""Any number of devices gives the same epidemic."""

import math
import re

import jax
import numpy as np
import pytest

from research import mesh as mesh_lib
from research.systems.epicast import checkpoint, engine, policies, sharding
from tests.systems.epicast import cases

ORDERS = (policies.Shelter(day=3, compliance=0.2),)
DAYS = 20


def _mesh(devices: int):
  return mesh_lib.make_mesh({"data": devices})


def _world(devices: int):
  world = cases.world(changes=ORDERS, fear=cases.FEAR, multiple=devices)
  people = np.arange(0, len(cases.population()), 40)
  return world, cases.start(world, fear=cases.FEAR, index_cases=people)


@pytest.fixture(scope="module")
def alone():
  """Digests at the middle and the end of a run on one device, and its days."""
  world, state = _world(1)
  state, first = engine.run(world, state, days=DAYS // 2)
  middle = checkpoint.digest(world, state)
  state, second = engine.run(world, state, days=DAYS // 2)
  daily = jax.tree.map(lambda *parts: np.concatenate(parts), first, second)
  assert daily.infections.sum() > 50
  assert daily.fearful.sum() > 100
  return middle, checkpoint.digest(world, state), daily


@pytest.mark.parametrize(
  "devices", [2, 8, pytest.param(4, marks=pytest.mark.slow)]
)
def test_trap_02_device_counts_change_no_bit(alone, devices):
  mesh = _mesh(devices)
  world, state = sharding.place(*_world(devices), mesh)
  found = []
  for want in alone[:2]:
    state, daily = sharding.run(world, state, days=DAYS // 2, mesh=mesh)
    assert checkpoint.digest(world, state) == want
    found.append(daily)
  assert len(state.stage.sharding.device_set) == devices
  assert len(state.stage.addressable_shards[0].data) * devices == len(
    state.stage
  )
  daily = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
  jax.tree.map(np.testing.assert_array_equal, daily, alone[2])


def test_a_run_goes_on_with_another_number_of_devices(alone, tmp_path):
  """From 8 to 2, by way of a checkpoint."""
  stamp = checkpoint.Stamp({"a": 1}, 0)
  mesh = _mesh(8)
  world, state = sharding.place(*_world(8), mesh)
  state, _ = sharding.run(world, state, days=DAYS // 2, mesh=mesh)
  path = checkpoint.save(tmp_path, world, state, stamp)
  other, mesh = _mesh(2), None
  world, state = sharding.place(*_world(2), other)
  state = checkpoint.load(path, world, state, stamp)
  state, _ = sharding.run(world, state, days=DAYS // 2, mesh=other)
  assert checkpoint.digest(world, state) == alone[1]


def test_only_counts_travel():
  """By the program: all-reduces of groups' words and tallies, nothing else."""
  mesh = _mesh(8)
  world, state = sharding.place(*_world(8), mesh)
  text = sharding.run.lower(world, state, days=5, mesh=mesh).as_text()
  kinds = re.findall(
    r"stablehlo\.(all_\w+|collective_\w+|reduce_scatter)", text
  )
  assert set(kinds) == {"all_reduce"}
  shapes = re.findall(
    r'"stablehlo\.all_reduce".*?\) -> tensor<(\S+?)>', text, re.DOTALL
  )
  sizes = [math.prod(map(int, shape.split("x")[:-1])) for shape in shapes]
  assert {shape.split("x")[-1] for shape in shapes} <= {"ui32", "i32"}
  assert 4 * sum(sizes) == sharding.reduced_bytes(world)
  assert sharding.reduced_bytes(world) < 8 * 4 * 2 * len(cases.population())


def test_agents_that_do_not_divide_are_refused():
  world, state = _world(1)
  assert len(world.agents.age) % 3
  with pytest.raises(ValueError, match="multiple=3 to engine.load"):
    sharding.place(world, state, _mesh(3))
