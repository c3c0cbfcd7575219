"""One of the processes that simulate an epidemic together.

It prints a digest of state and days of its own on one device, and one of all.
"""

import hashlib

from research import cluster

cluster.setup()

import jax  # noqa: E402  setup() comes before any other use of JAX
import numpy as np  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402

from research import mesh as mesh_lib  # noqa: E402
from research.runs import compilation  # noqa: E402
from research.systems.epicast import engine, sharding  # noqa: E402
from tests.systems.epicast import cases  # noqa: E402

DAYS = 20


def _digest(*trees) -> str:
  found = hashlib.sha256()
  for leaf in jax.tree.leaves(trees):
    found.update(np.ascontiguousarray(leaf).tobytes())
  return found.hexdigest()


def main() -> None:
  compilation.keep()
  mesh = mesh_lib.make_mesh({"node": 2, "local": 2})
  world = cases.world(fear=cases.FEAR, multiple=mesh.size)
  state = cases.start(world, fear=cases.FEAR)
  alone = engine.run(world, state, days=DAYS)
  assert alone[1].infections.sum() > 50
  world, state = jax.tree.map(np.asarray, (world, state))
  world, state = sharding.place(world, state, mesh)
  spread = sharding.run(world, state, days=DAYS, mesh=mesh, algorithm="nvrar")
  everywhere = multihost_utils.process_allgather(spread, tiled=True)
  print(_digest(alone), _digest(everywhere), flush=True)


if __name__ == "__main__":
  main()
