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
# # Do two-level gathers and scatters pay?
#
# [PCCL](https://arxiv.org/abs/2504.18658) gathers between nodes by all ranks at
# once, then within the node, then shuffles. Vendors' all-gathers are rings,
# whose steps grow with the ranks.
#
# This notebook looks at the schedules, times them on emulated links where this
# machine can have them, and trains a small decoder by them. It runs on a CPU in
# about a minute, from a clone in which `make reproduce` has made the
# environment.

# %%
import tempfile

from matplotlib import pyplot as plt

from collectives import algorithms, cost_model
from collectives import schedule as sched
from experiments.pccl import study, training
from experiments.pccl.configs import smoke
from research import runs

config = smoke.get_config()
context = runs.Context(runs.Workdir(tempfile.mkdtemp()))

# %% [markdown]
# ## Steps and bytes
#
# `0>2:0` says that rank 0 sends slot 0 to rank 2. After the steps between nodes
# every node has everything, in the order (local, node): hence the shuffle.

# %%
grid = sched.Grid(nodes=2, local=2)
pccl = algorithms.find("pccl_recursive", "all_gather")
print(pccl.schedule("all_gather", grid))

# %% [markdown]
# Eight ranks, four nodes: a flat recursive all-gather has few steps but sends
# twice as much out of each node as any other. With two levels both are small.

# %%
big, size = sched.Grid(nodes=4, local=2), 2 << 20
for name in algorithms.names("all_gather"):
  terms = cost_model.terms(name, "all_gather", big, size)
  print(
    f"{name:16} {terms.inter_steps} steps between nodes, "
    f"{terms.inter_bytes / size:.3f} M through the busiest port"
  )

# %% [markdown]
# The model says where one takes over from another. These times are modelled,
# for links of 1 ms and 1 Gb/s; a step takes two latencies.

# %%
machine = cost_model.Machine(
  alpha_inter=2e-3, beta_inter=8e-9, alpha_local=2e-4, beta_local=4e-10
)
sizes = [2**n for n in range(13, 24)]
fig, axes = plt.subplots(figsize=(6, 4))
for name in algorithms.names("all_gather"):
  times = [
    1e3 * machine.predict(cost_model.terms(name, "all_gather", big, n))
    for n in sizes
  ]
  axes.loglog(sizes, times, ".-", label=name)
axes.set(xlabel="bytes gathered", ylabel="milliseconds, modelled")
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## On emulated links
#
# Two nodes a millisecond apart. The links need Linux with user namespaces or
# root; where there are none, this says so. Four calls show how it is done and
# nothing more: the `laptop` config measures.

# %%
swept, reason = study.sweep(config, context)
if reason:
  print(f"no links: {reason}")
for rows in swept:
  for row in rows:
    print(
      f"{row.size:7} bytes {row.algorithm:16} {row.wrong} wrong, median "
      f"{row.median_us / 1e3:5.1f} ms, fastest {row.min_us / 1e3:5.1f} ms"
    )

# %% [markdown]
# ## Training
#
# A Flax decoder with Adam, sharded (ZeRO-3) or copied to every rank (DDP). The
# losses are the same whatever carries the gradients. Bytes are counted in the
# compiled step.

# %%
trained = training.run(config.training, context)
for name, [case] in trained.cases.items():
  print(
    f"{name:22} loss {case.losses[0]:.6f} to {case.losses[-1]:.6f}, "
    f"{case.rank_bytes / 1e3:6.1f} KB a rank, "
    f"{case.port_bytes / 1e3:6.1f} KB out of a node"
  )
