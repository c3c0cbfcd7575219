"""One process of a grid of ranks: every algorithm against numpy.

results_worker.py NODES LOCAL LENGTH ...

Integers are compared here. Of floats it prints, for each of its devices, a
digest of the result, which is to be the same on all ranks.
"""

import hashlib
import sys

from research import cluster

cluster.setup()

import jax  # noqa: E402  setup() comes before any other use of JAX
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

import collectives  # noqa: E402
from collectives import algorithms  # noqa: E402
from research.runs import compilation  # noqa: E402
from tests.collectives import cases  # noqa: E402

_SMALL = 10_000  # an all-gather of longer vectors gathers that much in all


def _inputs(collective: str, ranks: int, length: int) -> np.ndarray:
  """Integers of each rank, `[ranks, n]`, by rank and index."""
  if collective == "all_gather" and length > _SMALL:
    length = -(-length // ranks)
  if collective == "reduce_scatter":
    length = -(-length // ranks) * ranks
  rng = np.random.default_rng(length)
  return rng.integers(-(2**31), 2**31, (ranks, length), np.int32)


def _expected(collective: str, x: np.ndarray) -> np.ndarray:
  """What every rank ends with, `[ranks, n]`."""
  if collective == "reduce_scatter":
    return x.sum(0, np.int32).reshape(len(x), -1)
  whole = x.reshape(-1) if collective == "all_gather" else x.sum(0, np.int32)
  return np.broadcast_to(whole, (len(x), whole.size))


def _function(collective: str, name: str):
  call = getattr(collectives, collective)
  tiled = {} if collective == "all_reduce" else {"tiled": True}

  def both(x, axes):
    floats = x.astype(jnp.float32) / 3  # which are rounded
    run = lambda y: call(y, axes, algorithm=name, **tiled)
    return run(x), run(floats)

  return both


def main() -> None:
  compilation.keep()
  nodes, local, *lengths = map(int, sys.argv[1:])
  mesh = cases.mesh_of(nodes, local)
  where = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
  for name, algorithm in algorithms.ALGORITHMS.items():
    for collective in algorithm.forms:
      inputs = {n: _inputs(collective, nodes * local, n) for n in lengths}
      x = {
        n: jax.make_array_from_callback(host.shape, where, host.__getitem__)
        for n, host in inputs.items()
      }
      both = _function(collective, name)
      done = cases.per_rank(
        lambda x, axes, both=both: jax.tree.map(lambda y: both(y, axes), x),
        nodes,
        local,
      )(x)
      for n, (whole, floats) in done.items():
        case = f"{name} {collective} {n}"
        want = _expected(collective, inputs[n])
        for part in whole.addressable_shards:
          np.testing.assert_array_equal(part.data, want[part.index], case)
        for part in floats.addressable_shards:
          data = np.asarray(part.data)
          print(case, hashlib.sha256(data.tobytes()).hexdigest()[:16])


if __name__ == "__main__":
  main()
