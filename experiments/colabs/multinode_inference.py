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
# # Which all-reduce is fast between nodes, and which is accurate?
#
# [The paper](https://arxiv.org/abs/2511.09557) finds that small all-reduces
# hold up decoding across nodes, and builds NVRAR: reduce-scatter within a node,
# recursive doubling between nodes, all-gather within the node.
#
# This notebook looks at its schedule, times it on emulated links where this
# machine can have them, and sums in bfloat16. It runs on a CPU in under a
# minute, from a clone in which `make reproduce` has made the environment.

# %%
import tempfile

import numpy as np
from matplotlib import pyplot as plt

from collectives import algorithms, cost_model
from collectives import schedule as sched
from experiments.multinode_inference import accuracy, collectives_study
from experiments.multinode_inference.configs import smoke
from research import runs

config = smoke.get_config()
context = runs.Context(runs.Workdir(tempfile.mkdtemp()))

# %% [markdown]
# ## Schedules are data
#
# Two nodes of two ranks. `0>2:+1` says that rank 0 sends slot 1 to rank 2,
# which adds it. Count what passes between nodes: NVRAR sends half of the buffer
# once.

# %%
grid = sched.Grid(nodes=2, local=2)
print(algorithms.find("nvrar", "all_reduce").schedule("all_reduce", grid))
big = sched.Grid(nodes=4, local=2)
for name in algorithms.names("all_reduce"):
  terms = cost_model.terms(name, "all_reduce", big, 512 << 10)
  print(
    f"{name:20} {terms.inter_steps:3} steps between nodes, "
    f"{terms.inter_bytes / 1024:5.0f} KB through the busiest port"
  )

# %% [markdown]
# ## On emulated links
#
# Four processes on two nodes, a millisecond apart. The links need Linux with
# user namespaces or root; where there are none, this says so. Two algorithms
# and four calls show how it is done and nothing more: the `laptop` config
# measures.

# %%
timings, reason = collectives_study.measure(config.links, context)
if reason:
  print(f"no links: {reason}")
for network, rows in timings.items():
  print(network)
  for row in rows:
    print(
      f"{row.size:7} bytes {row.algorithm:6} {row.wrong} wrong, median "
      f"{row.median_us / 1e3:5.1f} ms, fastest {row.min_us / 1e3:5.1f} ms"
    )

# %% [markdown]
# ## Sums in bfloat16
#
# Every step rounds. A ring adds rank after rank; recursive doubling adds pairs
# of pairs. Sums and messages in float32 cost twice the bytes and end the
# matter.

# %%
rounding = accuracy.run(config.accuracy, context, seed=config.seed)
ranks = config.accuracy.ranks
fig, axes = plt.subplots(figsize=(6, 4))
for name in algorithms.names("all_reduce"):
  errors = [rounding[name, accuracy.BFLOAT16, p].mean() for p in ranks]
  axes.loglog(ranks, errors, ".-", label=name)
errors = [rounding["ring", accuracy.FLOAT32, p].mean() for p in ranks]
axes.loglog(ranks, errors, "k:", label="ring, float32 sums")
axes.set(xlabel="ranks", ylabel="relative error of the sum")
axes.legend(fontsize=8)
plt.show()
ratio = np.divide(
  rounding["ring", accuracy.BFLOAT16, 64],
  rounding["recursive_doubling", accuracy.BFLOAT16, 64],
)
print(f"64 ranks: a ring's error is {ratio.mean():.1f} times the other's")
