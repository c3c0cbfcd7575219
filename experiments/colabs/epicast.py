# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # When does fear give an epidemic several waves?
#
# In [EpiCast with fear](https://arxiv.org/abs/2506.07842) people catch a
# disease, and fear of it. The fearful see fewer others, which ends the wave;
# then fear fades, and the next one may begin.
#
# This notebook runs a town of agents with and without a broadcaster, then the
# cells of the smoke config, and draws where the surrogate equations have a
# second wave. It runs on a CPU in about a minute, from a clone in which
# `make reproduce` has made the environment.

# %%
import tempfile

import numpy as np
from matplotlib import pyplot as plt

from experiments.epicast import agents_study, cells, surrogates_study
from experiments.epicast.configs import smoke
from research import runs
from research.runs import compilation
from research.systems.epicast import disease, engine, waves
from research.systems.epicast.population import build, synthetic

compilation.keep()  # a second run need not compile
config = smoke.get_config()
context = runs.Context(runs.Workdir(tempfile.mkdtemp()))

# %% [markdown]
# ## A town
#
# People have households, classes and work groups; the margins are the Bay
# Area's. Everything about them is an array, an entry an agent.

# %%
town = build.build(*synthetic.region(10_000))
print(f"{len(town):,} people in {town.household.max() + 1:,} households")
print(f"in school: {np.mean(town.kind[town.group] > 1):.0%}")

# %% [markdown]
# ## One outbreak, with and without a broadcaster
#
# The broadcaster reports how many got symptoms, averaged over a week. The more
# there are, the faster people become fearful; the fearful avoid 90 % of their
# contacts outside the household, and calm down after 20 days on average. Chance
# is the same in both runs: whoever would be infected by the same contacts at
# the same time draws the same numbers.


# %%
def outbreak(fear, days=300):
  history = disease.Disease()
  world = engine.load(town, history, disease.Contacts(), (), fear)
  index_cases = np.arange(0, len(town), 200)
  state = engine.start(world, history, index_cases, fear, seed=0)
  _, daily = engine.run(world, state, days=days)
  counts = np.asarray(daily.stages).sum(1)
  return waves.curve(counts, "infectious"), np.asarray(daily.fearful).sum(1)


cell = cells.Cell("broadcaster", 0.9, 20.0, 0.0, 0.0, 30.0, 1)
calm, _ = outbreak(None)
ill, afraid = outbreak(cell.fear())
fig, axes = plt.subplots(figsize=(6, 3.5))
axes.plot(100 * calm, label="infectious, no fear")
axes.plot(100 * ill, label="infectious, with a broadcaster")
axes.plot(10 * afraid / len(town), "--", label="fearful, in tens of per cent")
axes.set(xlabel="day", ylabel="% of the people")
axes.legend()
plt.show()
for name, curve in (("no fear", calm), ("broadcaster", ill)):
  found = waves.find(curve, people=len(town))
  print(f"{name}: waves with peaks on days {found.days.tolist()}")

# %% [markdown]
# A wave is a peak of the weekly mean that stands out by 0.2 % of the people,
# and by three standard deviations of such a count: small humps are chance.
#
# ## Cells of a grid
#
# The study runs many settings of fear with several seeds; here are those of the
# smoke config, in a village of 2,000.

# %%
outbreaks = agents_study.run(config, context)
for cell, found in outbreaks.cells.items():
  [run] = found
  print(
    f"{cell.setting:11} {cell.cut:.0%} avoided, φ_ff {cell.phi_ff:<5g} "
    f"strength {cell.strength:3g}: {run.waves} waves, {run.attack:.0%} infected"
  )

# %% [markdown]
# ## The equations
#
# Compartments of the disease times neutral or fearful. For each family there
# are parameters with one wave and others with two: along ρ_f, the chance to
# become fearful on recovery, or σ_f, the susceptibility of the fearful.

# %%
solved = surrogates_study.run(config, outbreaks)
fig, panels = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
for panel, (name, diagram) in zip(panels, solved.diagrams.items(), strict=True):
  rho, sigma = diagram.values
  panel.pcolormesh(rho, sigma, diagram.outcomes.waves.T, vmin=0, vmax=3)
  panel.set(xscale="log", xlabel="ρ_f", title=name)
panels[0].set_ylabel("σ_f")
plt.show()
for name, line in solved.lines.items():
  several = line.values[line.waves >= 2]
  print(
    f"{name}: several waves for {line.varied} from {several.min():.3g} to "
    f"{several.max():.3g}"
  )
