"""One of the processes that serve the same requests with one model.

engine_worker.py ALGORITHM [PROCESS THAT DIES]

Prints whether answers are those of one device, which each works out alone.
"""

import os
import signal
import sys

from research import cluster

cluster.setup()

import jax  # noqa: E402  setup() comes before any other use of JAX
import numpy as np  # noqa: E402

from research import mesh  # noqa: E402
from research.inference import engine as engine_lib  # noqa: E402
from research.inference import parallel  # noqa: E402
from research.inference.request import Request  # noqa: E402
from tests import tiny  # noqa: E402

_SETTINGS = engine_lib.Settings(
  num_pages=48, page_size=8, rows=(4,), pieces=(16,), block=8
)


def main() -> None:
  model = tiny.chaotic()
  rng = np.random.default_rng(0)
  requests = [
    Request(rng.integers(0, 256, size).tolist(), max_tokens=10)
    for size in (1, 8, 17, 30, 40)
  ]
  tokens = lambda engine: [one.tokens for one in engine.generate(requests)]
  with jax.default_device(jax.local_devices()[0]):
    alone = tokens(engine_lib.Engine(model, _SETTINGS))
  algorithm, *dying = sys.argv[1:]
  grid = mesh.make_mesh({"node": 2, "local": jax.local_device_count()})
  layout = parallel.Split(mesh=grid, algorithm=algorithm)
  engine = engine_lib.Engine(model, _SETTINGS, layout=layout)
  engine.warm_up()
  if str(jax.process_index()) in dying:
    os.kill(os.getpid(), signal.SIGKILL)
  assert len(set(alone)) == len(alone), "the answers are too alike"
  print("same" if tokens(engine) == alone else "other")


if __name__ == "__main__":
  main()
