"""The one way to make a device mesh."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

#: Every mesh axis that the codebase uses, and what it divides.
AXES = {
  "data": "independent rows of a batch",
  "node": "outer tensor-parallel axis: across machines",
  "local": "inner tensor-parallel axis: within a machine",
  "pipe": "stages of layers",
  "x": "first axis of a 3D-parallel graph layout",
  "y": "second axis of a 3D-parallel graph layout",
  "z": "third axis of a 3D-parallel graph layout",
}


def make_mesh(
  shape: Mapping[str, int], *, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
  """Makes a mesh whose axes the compiler partitions automatically.

  `jax.make_mesh` defaults to explicit axis types, which reject inputs without a
  sharding; this helper always states `Auto`.

  Args:
    shape: size of each axis, outermost first; names must be in `AXES`.
    devices: devices to lay out in row-major order; the first
      `prod(shape.values())` of `jax.devices()` when omitted.

  Returns:
    The mesh.

  Raises:
    ValueError: on an unknown axis name or too few devices.

  Example:
    >>> make_mesh({"data": 1, "local": 1}).axis_names
    ('data', 'local')
  """
  unknown = [name for name in shape if name not in AXES]
  if unknown:
    raise ValueError(
      f"unknown mesh axis: got {unknown[0]!r}, expected one of {list(AXES)}"
    )
  devices = list(jax.devices() if devices is None else devices)
  size = math.prod(shape.values())
  if size > len(devices):
    raise ValueError(
      f"mesh {dict(shape)} needs {size} devices, got {len(devices)}; use a "
      "smaller mesh or set JAX_NUM_CPU_DEVICES"
    )
  grid = np.asarray(devices[:size]).reshape(tuple(shape.values()))
  auto = (jax.sharding.AxisType.Auto,) * len(shape)
  return jax.sharding.Mesh(grid, tuple(shape), axis_types=auto)
