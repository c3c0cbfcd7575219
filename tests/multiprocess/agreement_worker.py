"""One of three processes, of which 2 takes another algorithm; 1 comes late.

Its arguments are two files of choices, of which process 2 has the second.
"""

import os
import sys
import time

from research import cluster

cluster.setup()

import jax  # noqa: E402  setup() comes before any other use of JAX
from jax.sharding import PartitionSpec  # noqa: E402

import collectives  # noqa: E402
from collectives.dispatch import environment  # noqa: E402
from research import mesh  # noqa: E402


def _plan(algorithm: str, length: int) -> tuple[str, ...]:
  step = jax.shard_map(
    lambda x: collectives.all_reduce(x, "node", algorithm=algorithm),
    mesh=mesh.make_mesh({"node": 3}),
    in_specs=PartitionSpec("node"),
    out_specs=PartitionSpec(),
  )
  return collectives.plan(step, jax.ShapeDtypeStruct((length,), "float32"))


def _chosen(path: str) -> tuple[str, ...]:
  os.environ[environment.CHOICES] = path
  return _plan("auto", 6)


def main() -> None:
  last = jax.process_index() == 2
  collectives.check_agreement("same", _plan("ring", 6))
  collectives.check_agreement("same", _plan("ring", 9))
  collectives.check_agreement("same", _chosen(sys.argv[1]))
  for name, plan in (
    ("algorithms", _plan("recursive_doubling" if last else "ring", 6)),
    ("shapes", _plan("ring", 9 if last else 6)),
    ("choices", _chosen(sys.argv[2 if last else 1])),
  ):
    try:
      collectives.check_agreement(name, plan)
    except collectives.DisagreementError as error:
      print(error, flush=True)
  if jax.process_index() == 1:
    time.sleep(600)
  collectives.check_agreement("late", (), timeout=1.0)


if __name__ == "__main__":
  main()
