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
# machine can have them, sums in bfloat16, and watches the engine that the
# paper's second half needs. It runs on a CPU in under a minute, from a clone in
# which `make reproduce` has made the environment.

# %%
import tempfile

import numpy as np
from matplotlib import pyplot as plt

from collectives import algorithms, cost_model
from collectives import schedule as sched
from experiments.multinode_inference import accuracy, collectives_study
from experiments.multinode_inference.configs import smoke
from research import runs
from research.inference.engine import Engine, Settings
from research.inference.request import Request
from research.transformer.checkpoints import model as models
from research.transformer.config import DecoderConfig

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

# %% [markdown]
# ## The engine
#
# Twelve requests, room for four at once, and prompts that are read in pieces of
# 32 tokens a step beside the others' decoding. Half of them begin alike: whole
# pages of that prefix are read once. A random decoder will do.

# %%
decoder = DecoderConfig(
  vocab_size=512,
  embed_dim=64,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=16,
  mlp_dim=128,
  context_length=256,
)
model = models.initialise(decoder, seed=0)
settings = Settings(
  num_pages=64, page_size=16, rows=(4,), pieces=(32,), block=16
)
engine = Engine(model, settings)
engine.warm_up()
draw = np.random.default_rng(0)
prefix = draw.integers(0, 512, 64).tolist()
requests = []
for index in range(12):
  own = draw.integers(0, 512, int(draw.integers(4, 60))).tolist()
  prompt = prefix + own if index % 2 else own
  requests.append(Request(prompt, max_tokens=int(draw.integers(8, 40))))
answers = engine.generate(requests)

fig, axes = plt.subplots(figsize=(7, 3.5))
begin = answers[0].timing.arrived
colors = {"queue": "0.85", "prefill": "tab:orange", "decode": "tab:blue"}
for row, answer in enumerate(answers):
  for name, start, end in answer.timing.phases:
    span = (1e3 * (start - begin), 1e3 * (end - start))
    label = name if row == len(answers) - 1 else None
    axes.broken_barh([span], (row - 0.4, 0.8), color=colors[name], label=label)
axes.set(xlabel="ms", ylabel="request", title="what each request went through")
axes.invert_yaxis()
axes.legend(loc="lower left")
plt.show()
shared = sum(answer.cached_tokens for answer in answers)
print(
  f"{engine.steps} steps, {sum(len(a.tokens) for a in answers)} tokens drawn, "
  f"{shared} of {sum(a.prompt_tokens for a in answers)} prompt tokens from "
  "pages of others"
)

# %% [markdown]
# An answer does not depend on who else is served: here is each of them alone,
# on an engine that shares nothing.

# %%
alone = Engine(model, settings)
same = [alone.generate([one])[0].tokens for one in requests]
print("the same tokens:", same == [answer.tokens for answer in answers])
