"""One of the processes that train a decoder.

training_worker.py KIND ALGORITHM

It prints how far losses and weights are from those of one device, and how far
that one has come from the start.
"""

import sys
from typing import Any

from research import cluster

cluster.setup()

import jax  # noqa: E402  setup() comes before any other use of JAX
import numpy as np  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402

from research import mesh  # noqa: E402
from research.runs import compilation  # noqa: E402
from research.systems.pccl import ddp, zero3  # noqa: E402
from tests.systems.pccl import cases  # noqa: E402


def _distance(a, b) -> float:
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return max(float(np.abs(np.asarray(x) - y).max()) for x, y in pairs)


def main() -> None:
  compilation.keep()
  grid = mesh.make_mesh({"node": 2, "local": 2})
  start = jax.tree.map(np.asarray, cases.start(cases.LLAMA))
  want, params = cases.single_device(cases.LLAMA, cases.SGD)
  params = jax.tree.map(np.asarray, params)
  kind, algorithm = sys.argv[1:]
  kinds: dict[str, Any] = {"ddp": ddp.DataParallel, "zero3": zero3.Zero3}
  trainer = kinds[kind](
    config=cases.LLAMA,
    optimizer=cases.SGD,
    mesh=grid,
    axes=grid.axis_names,
    algorithm=algorithm,
    bucket_bytes=1000,
  )
  state, losses = trainer.init(start), []
  for tokens in cases.batches(cases.LLAMA):
    rows = jax.make_array_from_callback(
      tokens.shape,
      jax.NamedSharding(grid, jax.P(grid.axis_names)),
      tokens.__getitem__,
    )
    state, loss = trainer.step(state, rows)
    losses.append(float(loss))
  got = multihost_utils.process_allgather(trainer.params(state), tiled=True)
  print(
    max(abs(a - b) for a, b in zip(losses, want, strict=True)),
    _distance(got, params),
    _distance(start, params),
  )


if __name__ == "__main__":
  main()
