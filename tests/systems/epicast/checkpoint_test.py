"""States on disk: the same bits back, in any layout, or a clear refusal."""

import jax
import numpy as np
import pytest

from research import mesh as mesh_lib
from research.runs import errors
from research.systems.epicast import checkpoint, engine
from research.systems.epicast.scenario import compiling, identity
from tests.systems.epicast.scenario import towns


@pytest.fixture(scope="module")
def model():
  return compiling.compile_scenario(towns.scenario())


@pytest.fixture(scope="module")
def stamp(model):
  return checkpoint.Stamp(identity.describe(model.scenario), 0)


@pytest.fixture(scope="module")
def saved(model, stamp, tmp_path_factory):
  """A state after some days, and where it is kept."""
  folder = tmp_path_factory.mktemp("checkpoints")
  state = _run(model.world, model.start(0), 6)
  return state, checkpoint.save(folder, model.world, state, stamp)


def _run(world, state, days):
  for _ in range(days):
    state, _ = engine.run(world, state, days=1)
  return state


def _equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_state_comes_back_bit_for_bit(model, saved, stamp):
  state, path = saved
  found = checkpoint.load(path, model.world, model.start(0), stamp)
  _equal(found, state)
  assert int(found.day) == 6
  assert checkpoint.digest(model.world, found) == checkpoint.digest(
    model.world, state
  )


@pytest.mark.parametrize(
  "multiple", [1, pytest.param(512, marks=pytest.mark.slow)]
)
def test_another_layout_goes_on_with_the_same_people(
  model, saved, stamp, multiple
):
  """In another order, and padded."""
  state, path = saved
  other = compiling.compile_scenario(model.scenario, multiple=multiple)
  size = len(other.world.agents.identity)
  assert size == max(400, multiple)
  order = np.random.default_rng(0).permutation(size)
  world = other.world._replace(
    agents=jax.tree.map(lambda array: array[order], other.world.agents)
  )
  start = jax.tree.map(
    lambda leaf: leaf[order] if leaf.shape[:1] == (size,) else leaf,
    other.start(0),
  )
  found = checkpoint.load(path, world, start, stamp)
  digest = checkpoint.digest(world, found)
  assert digest == checkpoint.digest(model.world, state)
  assert int(found.tally.sum()) == size
  there = _run(world, found, 3)
  here = _run(model.world, state, 3)
  assert checkpoint.digest(world, there) == checkpoint.digest(model.world, here)


def test_another_device_count_reads_the_same_bits(
  model, saved, stamp, tmp_path
):
  state, path = saved
  mesh = mesh_lib.make_mesh({"data": 8})
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  place = lambda leaf: jax.device_put(
    leaf, split if leaf.shape[:1] == (400,) else whole
  )
  start = jax.tree.map(place, model.start(0))
  found = checkpoint.load(path, model.world, start, stamp)
  _equal(found, state)
  assert found.stage.sharding == split
  again = checkpoint.save(tmp_path, model.world, found, stamp)
  _equal(checkpoint.load(again, model.world, model.start(0), stamp), state)


def test_only_the_last_checkpoint_stays(model, saved, stamp, tmp_path):
  state, _ = saved
  assert checkpoint.latest(tmp_path / "none") is None
  first = checkpoint.save(tmp_path, model.world, model.start(0), stamp)
  assert checkpoint.latest(tmp_path) == first
  second = checkpoint.save(tmp_path, model.world, state, stamp)
  assert list(tmp_path.iterdir()) == [second]
  (tmp_path / "day-00099.orbax-checkpoint-tmp").mkdir()  # of a killed process
  assert checkpoint.latest(tmp_path) == second


@pytest.mark.parametrize(
  ("changes", "replicate", "message"),
  [
    (
      {"contacts.p_trans": 0.2},
      0,
      "got a run of another scenario, with contacts.p_trans = 0.1; expected "
      "contacts.p_trans = 0.2: choose another folder",
    ),
    (
      {"fear.behaviours.1.mask_in": 1},
      0,
      "with fear.behaviours = ",
    ),
    ({}, 1, "got replicate 0; expected 1"),
  ],
)
def test_a_checkpoint_of_another_scenario_is_refused(
  model, saved, changes, replicate, message
):
  other = identity.describe(towns.scenario(changes))
  with pytest.raises(errors.UserError, match=message):
    checkpoint.load(
      saved[1],
      model.world,
      model.start(0),
      checkpoint.Stamp(other, replicate),
    )


def test_a_folder_that_is_no_checkpoint_is_told(model, stamp, tmp_path):
  with pytest.raises(errors.UserError, match="remove the folder to start aga"):
    checkpoint.load(tmp_path, model.world, model.start(0), stamp)
