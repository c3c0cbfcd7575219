"""All-reduce over one mesh axis, by GPUs that put into each other's memory."""

import dataclasses
import functools

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jaxtyping import Array, Shaped

from kernels_pallas import native_build
from kernels_pallas.hierarchical_all_reduce.nvshmem import library

_PROTOCOLS = {"ll8": 0, "simple": 1}
_DTYPES = ("float32", "bfloat16")
_CHUNK_BYTES = 8192  # of payload; the paper's package takes 16 KiB of cells
_BLOCKS = 32


@dataclasses.dataclass(frozen=True)
class Communicator:
  """What `start` opened for an axis.

  Attributes:
    index: what the handler knows it by.
    size: ranks of the axis.
    max_bytes: most that a rank may reduce at once.
  """

  index: int
  size: int
  max_bytes: int


_communicators: dict[str, Communicator] = {}


def unavailable() -> str | None:
  """Why the handler cannot run here, or `None` where it can.

  Builds it, which takes some ten seconds the first time on a machine.
  """
  if jax.default_backend() != "gpu":
    return f"got backend {jax.default_backend()}, expected gpu"
  local = len(jax.local_devices())
  if local != 1:
    return (
      f"got {local} GPUs in a process, expected 1; start a process for each"
    )
  try:
    _library()
  except (native_build.NativeError, OSError) as error:
    return str(error)
  return None


def start(
  mesh: jax.sharding.Mesh,
  axis: str,
  *,
  max_bytes: int = 1 << 22,
  timeout: float | int = 100.0,
) -> None:
  """Starts NVSHMEM and takes memory for all-reduces over an axis.

  To be called once an axis, by all processes in the same order. It takes from
  NVSHMEM's symmetric heap (`NVSHMEM_SYMMETRIC_SIZE`) about 6 `max_bytes` for
  every step: 24 `max_bytes` for 16 nodes.

  Args:
    mesh: over all devices, one of each process.
    axis: whose ranks will reduce, such as `"node"`.
    max_bytes: most that a rank will reduce at once.
    timeout: seconds after which a call fails that waits for a peer.

  Raises:
    RuntimeError: there is no GPU or no NVSHMEM; or it does not start.
    ValueError: the mesh or the axis is not one that it can serve.
  """
  members, index = _members(mesh, axis)
  if axis in _communicators:
    raise ValueError(f"axis: got {axis!r} again, expected one start() for it")
  if reason := unavailable():
    raise RuntimeError(f"NVSHMEM all-reduce: {reason}")
  calls = _started()
  calls.open(
    axis,
    members,
    index,
    words=-(-max_bytes // 4),
    chunk=_CHUNK_BYTES // 4,
    blocks=_BLOCKS,
    timeout=timeout,
  )
  _communicators[axis] = Communicator(
    len(_communicators), len(members), max_bytes
  )


def inter_node_all_reduce(
  x: Shaped[Array, "..."], axis: str, *, protocol: str = "ll8"
) -> Shaped[Array, "..."]:
  r"""Sums over an axis by recursive doubling; for use inside `shard_map`.

  In step s each rank sends its whole sum to rank XOR $2^s$ and adds what it is
  sent: $\log_2 N$ steps of M bytes. With N no power of two the extra ranks hand
  over their data first and are handed the sum at the end. All ranks end with
  the same bits. bfloat16 is added in float32 and rounded in each step.

  A rank that waits longer than `start`'s timeout ends the program with an
  error (the paper's code goes on with wrong data); `explain` names whom it
  waited for.

  Args:
    x: of any shape.
    axis: for which `start` was called.
    protocol: `"ll8"` sends each 4 bytes with a flag, at twice the bytes and
      without a signal; `"simple"` sends chunks, each followed by a signal. The
      first is for small arrays.

  Returns:
    The sum, on every rank.

  Raises:
    ValueError: an unknown protocol, an axis that is not open, a dtype other
      than float32 and bfloat16, or more than `max_bytes`.

  References:
    arXiv:2511.09557, phase 2 of NVRAR.
  """
  if protocol not in _PROTOCOLS:
    raise ValueError(
      f"protocol: got {protocol!r}, expected one of {tuple(_PROTOCOLS)}"
    )
  if x.dtype.name not in _DTYPES:
    raise ValueError(f"x: got {x.dtype}, expected one of {_DTYPES}; cast it")
  if reason := refusal(x, axis):
    raise ValueError(reason)
  call = jax.ffi.ffi_call(
    library.TARGET,
    jax.ShapeDtypeStruct(x.shape, x.dtype),
    has_side_effect=True,
    vmap_method="broadcast_all",
  )
  return call(
    x,
    communicator=np.int64(_communicators[axis].index),
    protocol=np.int32(_PROTOCOLS[protocol]),
  )


def refusal(x: jax.Array | jax.ShapeDtypeStruct, axis: str) -> str | None:
  """Why such an array cannot be reduced over an axis, or `None` if it can."""
  found = _communicators.get(axis)
  if found is None:
    return (
      f"axis: got {axis!r}, expected one of {tuple(_communicators)}; call "
      "start(mesh, axis) of nvshmem.inter_node first"
    )
  if lax.axis_size(axis) != found.size:
    return (
      f"axis {axis!r}: got {lax.axis_size(axis)} ranks, expected {found.size}, "
      "as in the mesh given to start"
    )
  if x.size * x.dtype.itemsize > found.max_bytes:
    return (
      f"x: got {x.size * x.dtype.itemsize} bytes, expected at most "
      f"{found.max_bytes}; give start a larger max_bytes"
    )
  return None


def explain(axis: str) -> None:
  """Raises whom a failed call over an axis waited for, if one failed.

  Raises:
    RuntimeError: names the process and the step.
  """
  _library().failure(_communicators[axis].index)


def _members(mesh: jax.sharding.Mesh, axis: str) -> tuple[list[int], int]:
  """The processes along an axis through this one, and its index there."""
  if axis not in mesh.axis_names:
    raise ValueError(f"axis: got {axis!r}, expected one of {mesh.axis_names}")
  processes = np.vectorize(lambda device: device.process_index)(mesh.devices)
  everyone = sorted(processes.flat)
  if everyone != list(range(jax.process_count())):
    raise ValueError(
      f"mesh: got devices of processes {everyone}, expected one of each of "
      f"{jax.process_count()}; NVSHMEM memory is taken by all at once"
    )
  lines = np.moveaxis(processes, mesh.axis_names.index(axis), -1)
  lines = lines.reshape(-1, mesh.shape[axis])
  row, index = np.argwhere(lines == jax.process_index())[0]
  return [int(x) for x in lines[row]], int(index)


@functools.cache
def _library() -> library.Library:
  """The library for this process's GPU, its handler registered."""
  capability = jax.local_devices()[0].compute_capability
  made = library.Library(library.build(int(capability.replace(".", ""))))
  jax.ffi.register_ffi_target(library.TARGET, made.handler, platform="CUDA")
  return made


@functools.cache
def _started() -> library.Library:
  """The library, once NVSHMEM has started on all processes."""
  calls = _library()
  rank = jax.process_index()
  own = calls.unique_id() if rank == 0 else bytes(calls.unique_id_bytes)
  shared = multihost_utils.broadcast_one_to_all(
    np.frombuffer(own, np.uint8).astype(np.int32)
  )
  name = np.asarray(shared).astype(np.uint8).tobytes()
  device = jax.local_devices()[0].local_hardware_id
  calls.start(device, rank, jax.process_count(), name)
  return calls
