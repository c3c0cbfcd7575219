"""Compiles a training step from shapes alone and prints the numbers it sends.

python -m experiments.pccl.compile_step 7b
"""

import json
from collections.abc import Sequence

import jax

from experiments.pccl import step_traffic
from research import runs
from research.runs import compilation


def main(argv: Sequence[str]) -> int:
  """Compiles the model that the first argument names."""
  compilation.keep()
  jax.config.update("jax_num_cpu_devices", step_traffic.RANKS)
  config = step_traffic.MODELS[argv[1]]
  print(json.dumps(step_traffic.compile_step(config, step_traffic.RANKS)))
  return 0


if __name__ == "__main__":
  runs.launch(main)
