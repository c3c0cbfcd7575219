"""Our epidemic simulator behind JSON lines, as its rivals are.

  python -m experiments.tools.epidemic_worker

A request says how many people, or which folder has a census, how many days, the
share infected at first, a seed, whether there is fear, and on how many devices;
`experiments/tools/peers/epidemic_worker.py` says what the answer has.
"""

import json
import pathlib
import sys
import time

import jax
import numpy as np

from experiments.epicast import agents_study, cells
from research import mesh
from research.systems.epicast import engine, sharding
from research.systems.epicast.disease import Stage
from research.systems.epicast.population import build, people, synthetic
from research.telemetry import memory

_MEETS = "household, cluster, neighbourhood, community, work, class, school"
#: All of fear: contagion, the sick, a broadcaster, and what the fearful do.
FEAR = cells.Cell("both", 0.5, 20.0, 0.001, 0.1, 10.0, 1)


def answer(
  days: int,
  share: float,
  seed: int,
  people: int = 0,
  *,
  census: str = "",
  fear: bool = False,
  devices: int = 1,
) -> dict:
  """Sets a run up, and times it."""
  memory.reset_peak()
  town = _town(people, census)
  number = len(town)
  rng = np.random.default_rng(seed)
  cases = rng.choice(number, round(share * number), replace=False)
  afraid = FEAR.fear() if fear else None
  world = engine.load(
    town,
    agents_study.HISTORY,
    agents_study.CONTACTS,
    (),
    afraid,
    multiple=devices,
  )
  del town  # the device has what it needs
  state = engine.start(world, agents_study.HISTORY, cases, afraid, seed=seed)
  memory.release()
  if devices > 1:
    grid = mesh.make_mesh({"data": devices})
    world, state = sharding.place(world, state, grid)
    lowered = sharding.run.lower(world, state, days=days, mesh=grid)
  else:
    lowered = engine.run.lower(world, state, days=days)
  run = lowered.compile()
  memory.release()  # what the compiler took, as above
  wall, processor = time.perf_counter(), time.process_time()
  _, daily = jax.block_until_ready(run(world, state))
  left = int(np.asarray(daily.stages)[-1, :, Stage.S].sum())
  return {
    "seconds": time.process_time() - processor,
    "wall": time.perf_counter() - wall,
    "attack": 1 - left / number,
    "peak": memory.peak_rss_bytes(),
    "people": number,
    "meets": _MEETS + ("; fear" if fear else ""),
  }


def _town(size: int, census: str) -> people.Population:
  if not census:
    return build.build(*synthetic.region(size), seed=0)
  folder = pathlib.Path(census)
  return build.from_files(
    folder / "BayArea.dat", folder / "BayArea-wf.bin", seed=0
  )


def main() -> None:
  """Answers until its input ends."""
  memory.return_large()
  for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
  main()
