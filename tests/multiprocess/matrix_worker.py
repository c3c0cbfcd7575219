"""One of the processes that answer real prompts with SmolLM2.

matrix_worker.py PROMPTS ANSWERS ALGORITHM

PROMPTS is a JSON file of token numbers; each process writes its answers into
one of its own, ANSWERS with its number behind a dot.
"""

import dataclasses
import json
import pathlib
import sys

from research import cluster

cluster.setup()

import jax  # noqa: E402  setup() comes before any other use of JAX

from research import mesh  # noqa: E402
from research.data import artifacts  # noqa: E402
from research.inference import engine as engine_lib  # noqa: E402
from research.inference import parallel  # noqa: E402
from research.inference.request import Request  # noqa: E402
from research.transformer.checkpoints import gguf  # noqa: E402
from tests.inference import real_prompts  # noqa: E402


def main() -> None:
  prompts, answers, algorithm = sys.argv[1:]
  model = gguf.load(
    artifacts.fetch("smollm2-135m-instruct-q4_1", progress=False)
  )
  grid = mesh.make_mesh({"node": 2, "local": jax.local_device_count()})
  engine = engine_lib.Engine(
    model,
    dataclasses.replace(real_prompts.SETTINGS, rows=(16,)),
    layout=parallel.Split(mesh=grid, algorithm=algorithm),
  )
  requests = [
    Request(prompt, max_tokens=real_prompts.TOKENS, ignore_eos=True)
    for prompt in json.loads(pathlib.Path(prompts).read_text(encoding="utf-8"))
  ]
  found = json.dumps([list(one.tokens) for one in engine.generate(requests)])
  file = pathlib.Path(f"{answers}.{jax.process_index()}")
  file.write_text(found, encoding="utf-8")


if __name__ == "__main__":
  main()
