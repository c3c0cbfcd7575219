"""One process of a 2 x 2 job: a global psum, then the end argv asks for."""

import pathlib
import sys

from research import cluster

cluster.setup()

import jax  # noqa: E402  setup() comes before any other use of JAX
import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402

from research.telemetry import metrics, trace  # noqa: E402


def main() -> None:
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  host = np.array([1.0, 10.0, 100.0, 1000.0], np.float32)
  x = jax.make_array_from_callback(
    host.shape, NamedSharding(mesh, PartitionSpec("data")), lambda i: host[i]
  )
  add = jax.jit(
    jax.shard_map(
      lambda block: jax.lax.psum(block, "data"),
      mesh=mesh,
      in_specs=PartitionSpec("data"),
      out_specs=PartitionSpec(),
    )
  )
  folder = pathlib.Path(sys.argv[2])
  with (
    trace.profile(folder / "profile"),
    metrics.MetricWriter(folder) as writer,
  ):
    total = add(x)
    writer.scalars(0, {"test/sum": total[0]})
  local = len(jax.local_devices())
  print(f"{local} of {len(jax.devices())} devices, sum {float(total[0]):g}")
  if jax.process_index() == 1 and sys.argv[1] == "raise":
    raise ValueError("the planted failure")
  if jax.process_index() == 1 and sys.argv[1] == "exit":
    sys.exit(7)
  if sys.argv[1] != "end":
    add(x).block_until_ready()  # never answered: process 1 is gone


if __name__ == "__main__":
  main()
