"""One of three processes, of which 2 takes another algorithm; 1 comes late."""

import time

from research import cluster

cluster.setup()

import jax  # noqa: E402  setup() comes before any other use of JAX
from jax.sharding import PartitionSpec  # noqa: E402

import collectives  # noqa: E402
from research import mesh  # noqa: E402


def _plan(algorithm: str, length: int) -> tuple[str, ...]:
  step = jax.shard_map(
    lambda x: collectives.all_reduce(x, "node", algorithm=algorithm),
    mesh=mesh.make_mesh({"node": 3}),
    in_specs=PartitionSpec("node"),
    out_specs=PartitionSpec(),
  )
  return collectives.plan(step, jax.ShapeDtypeStruct((length,), "float32"))


def main() -> None:
  last = jax.process_index() == 2
  collectives.check_agreement("same", _plan("ring", 6))
  collectives.check_agreement("same", _plan("ring", 9))
  for name, plan in (
    ("algorithms", _plan("recursive_doubling" if last else "ring", 6)),
    ("shapes", _plan("ring", 9 if last else 6)),
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
