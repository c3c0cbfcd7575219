"""Other people's epidemic simulators behind JSON lines.

  epidemic_worker.py covasim|starsim|epiworld|laser

Run by the Python of `.venv-peers`; imports nothing of this codebase. A request
says how many people and days, which share is infected at first, and a seed; the
answer says the processor's seconds of the run (all threads), those of the wall,
the share ever infected, and the peak of resident memory. `MEETS` says which
contacts each peer has.
"""

import contextlib
import importlib.metadata
import json
import resource
import sys
import time
from collections.abc import Callable

MEETS = {
  "covasim": "household, school, work, community",
  "starsim": "random pairs",
  "epiworld": "random pairs",
  "laser": "mixing in 20 patches",
}
_PACKAGES = {"epiworld": "epiworldpy", "laser": "laser.generic"}

Run = Callable[[], float]


def covasim(people: int, days: int, share: float, seed: int) -> Run:
  """COVID-19 over layers of contacts, Covasim's own parameters."""
  import covasim as cv
  import numpy as np

  sim = cv.Sim(
    pop_size=people,
    pop_type="hybrid",
    n_days=days,
    pop_infected=round(share * people),
    rand_seed=seed,
    verbose=0,
  )
  sim.initialize()

  def run() -> float:
    sim.run(restore_pars=False)
    never = np.isnan(sim.people.date_exposed)  # infections count some twice
    return float(1 - never.mean())

  return run


def starsim(
  people: int,
  days: int,
  share: float,
  seed: int,
  *,
  contacts: int = 10,
  beta: float = 0.02,
  infectious: int = 11,
) -> Run:
  """SIR over new random pairs each day; transmits on `infectious - 1` days."""
  import starsim as ss

  sim = ss.Sim(
    n_agents=people,
    diseases=ss.SIR(
      beta=ss.perday(beta),
      init_prev=ss.bernoulli(p=share),
      dur_inf=ss.constant(v=ss.days(infectious)),
      p_death=ss.bernoulli(p=0),
    ),
    networks=ss.RandomNet(n_contacts=ss.constant(v=contacts), dur=ss.days(0)),
    dt=ss.days(1),
    start="2020-01-01",
    dur=ss.days(days),
    rand_seed=seed,
    verbose=0,
  )
  sim.init()

  def run() -> float:
    sim.run()
    return 1 - float(sim.diseases.sir.susceptible.sum()) / people

  return run


def epiworld(people: int, days: int, share: float, seed: int) -> Run:
  """SEIR among connected agents."""
  from epiworldpy import epimodels

  model = epimodels.ModelSEIRCONN("x", people, share, 2.0, 0.1, 4.0, 0.1)
  model.verbose_off()

  def run() -> float:
    model.run(days, seed)
    susceptible = model.get_db().get_today_total()["counts"][0]
    return 1 - float(susceptible) / people

  return run


def laser(people: int, days: int, share: float, seed: int) -> Run:
  """SEIR in 20 patches."""
  from laser.core import PropertySet
  from laser.core import distributions as chances
  from laser.core.utils import grid
  from laser.generic import SEIR
  from laser.generic import model as laser_model

  patches = grid(M=4, N=5, population_fn=lambda *_: people // 20)
  ill = round(share * people / 20)
  patches["S"], patches["E"] = patches["population"] - ill, 0
  patches["I"], patches["R"] = ill, 0
  settings = PropertySet({"prng_seed": seed, "nticks": days, "beta": 0.2})
  model = laser_model.Model(patches, settings)
  latent, infectious = (chances.poisson(mean) for mean in (4, 10))
  model.components = [
    SEIR.Susceptible(model),
    SEIR.Exposed(model, latent, infectious),
    SEIR.Infectious(model, infectious),
    SEIR.Recovered(model),
    SEIR.Transmission(model, latent),
  ]

  def run() -> float:
    model.run()
    return 1 - float(model.nodes.S[-1].sum()) / people

  return run


def answer(name: str, request: dict) -> dict:
  """Sets a run up, and times it."""
  run = globals()[name](**request)
  wall, processor = time.perf_counter(), time.process_time()
  attack = run()
  return {
    "seconds": time.process_time() - processor,
    "wall": time.perf_counter() - wall,
    "attack": attack,
    "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    "version": importlib.metadata.version(_PACKAGES.get(name, name)),
    "meets": MEETS[name],
  }


def main() -> None:
  """Answers until its input ends."""
  for line in sys.stdin:
    with contextlib.redirect_stdout(sys.stderr):
      reply = answer(sys.argv[1], json.loads(line))
    print(json.dumps(reply), flush=True)


if __name__ == "__main__":
  main()
