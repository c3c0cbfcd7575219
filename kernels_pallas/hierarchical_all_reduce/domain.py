"""Which devices a Pallas remote reference reaches."""

from typing import Any

import jax
import numpy as np

from kernels_pallas import implementations

_CAPABILITY = 9.0  # Hopper: what Mosaic GPU compiles for


def domain_of(device: Any) -> int:
  """The peer-to-peer domain of a GPU.

  Args:
    device: JAX's.

  Returns:
    JAX's partition, that is the NVLink domain or else the host; the process
    where it names none.
  """
  index = getattr(device, "partition_index", None)
  return device.process_index if index is None else index


def check_reach(
  domains: np.ndarray, names: tuple[str, ...], axes: tuple[str, ...]
) -> None:
  """Raises unless ranks along some axes of a mesh can store to one another.

  A remote reference is a plain pointer into a peer's memory. There is no
  network card behind it, so that it ends where NVLink does.

  Args:
    domains: of each device of the mesh, in its shape.
    names: of the mesh's axes.
    axes: along which a kernel talks.

  Raises:
    UnsupportedError: a group of ranks lies in several domains.

  Example:
    >>> check_reach(np.array([[0, 0], [1, 1]]), ("node", "local"), ("local",))
  """
  others = [axis for axis in names if axis not in axes]
  order = [names.index(axis) for axis in (*others, *axes)]
  ranks = int(np.prod([domains.shape[names.index(axis)] for axis in axes]))
  for group in domains.transpose(order).reshape(-1, ranks):
    found = sorted(set(group.tolist()))
    if len(found) > 1:
      raise implementations.UnsupportedError(
        f"axes {axes}: got ranks in peer-to-peer domains {found}, expected one "
        "domain, since remote references do not cross a network; give the axis "
        'that does to across="xla", or take implementation="xla"'
      )


def check_mesh(axes: tuple[str, ...]) -> None:
  """Raises unless the axes of the `shard_map` around can talk in a kernel.

  Mosaic takes only meshes whose devices are numbered from 0 in their order, so
  that their domains are known here. Nothing is known when a program is lowered
  for GPUs on a machine that has none; then nothing is checked.

  Args:
    axes: along which a kernel talks.

  Raises:
    UnsupportedError: a group of ranks lies in several domains, or a GPU is one
      for which Mosaic does not compile (it would end the process).
  """
  mesh = jax.sharding.get_abstract_mesh()
  if jax.default_backend() != "gpu":
    return
  devices = sorted(jax.devices(), key=lambda device: device.id)[: mesh.size]
  for device in devices:
    if float(device.compute_capability) < _CAPABILITY:
      raise implementations.UnsupportedError(
        f"got a GPU of compute capability {device.compute_capability}, "
        f'expected {_CAPABILITY} or more; take implementation="xla"'
      )
  domains = np.array([domain_of(device) for device in devices])
  check_reach(domains.reshape(mesh.axis_sizes), mesh.axis_names, axes)
