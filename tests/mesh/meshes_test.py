import jax
import numpy as np
import pytest

from research import mesh as mesh_lib


def test_lays_devices_out_in_row_major_order():
  mesh = mesh_lib.make_mesh({"node": 2, "local": 4})
  assert mesh.axis_names == ("node", "local")
  expected = np.array(jax.devices()[:8]).reshape(2, 4)
  np.testing.assert_array_equal(mesh.devices, expected)


def test_takes_only_the_devices_it_needs():
  devices = jax.devices()
  assert mesh_lib.make_mesh({"data": 3}).devices.tolist() == devices[:3]
  last = mesh_lib.make_mesh({"local": 2}, devices=devices[-2:])
  assert last.devices.tolist() == devices[-2:]


def test_axes_are_partitioned_automatically():
  mesh = mesh_lib.make_mesh({"data": 2, "local": 2})
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
  # An explicit axis would reject an input that says nothing of its sharding.
  with jax.set_mesh(mesh):
    assert float(jax.jit(lambda x: x @ x)(np.eye(4)).sum()) == 4.0


def test_unknown_axes_are_named():
  with pytest.raises(
    ValueError,
    match=r"unknown mesh axis: got 'model', expected one of \['data', 'node', "
    "'local', 'pipe', 'x', 'y', 'z'",
  ):
    mesh_lib.make_mesh({"data": 1, "model": 2})


def test_too_few_devices_are_counted():
  with pytest.raises(
    ValueError,
    match=r"mesh \{'data': 4, 'local': 4\} needs 16 devices, got 8; use a "
    "smaller mesh or set JAX_NUM_CPU_DEVICES",
  ):
    mesh_lib.make_mesh({"data": 4, "local": 4})
