"""One of three processes that guard a ring; some of them fail, as argv says.

faults_worker.py TIMEOUT PROCESS=FAULT ...
"""

import os
import signal
import sys
import time

from research import cluster

cluster.setup()

import jax  # noqa: E402  setup() comes before any other use of JAX
from jax.sharding import PartitionSpec  # noqa: E402

import collectives  # noqa: E402
from collectives import faults  # noqa: E402
from research import mesh  # noqa: E402

faults._ROLL_CALL = 8.0  # sixteen notes: a busy machine may swallow some


def main() -> None:
  step = jax.jit(
    jax.shard_map(
      lambda: collectives.all_reduce(
        jax.lax.axis_index("node"), "node", algorithm="ring"
      ),
      mesh=mesh.make_mesh({"node": 3}),
      in_specs=(),
      out_specs=PartitionSpec(),
    )
  )
  with collectives.guard("step 1", timeout=60):
    jax.block_until_ready(step())
  named = dict(pair.split("=") for pair in sys.argv[2:])
  fault = named.get(str(jax.process_index()))
  if fault == "late":
    time.sleep(600)
  if fault is not None:
    os.kill(os.getpid(), signal.Signals[fault])
  with collectives.guard("step 2", timeout=float(sys.argv[1])):
    jax.block_until_ready(step())
  print("the step ended")


if __name__ == "__main__":
  main()
