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
# # Does the power law of attention scores hold, and what is it worth?
#
# [SiftAttention](https://arxiv.org/abs/2506.05300) drops the values whose
# attention score is below a threshold, and predicts that threshold: at
# generation step $S$ the $\tau$-quantile of a head's scores is said to be
# $\theta_{S,\tau} \approx \alpha S^{-\beta}$.
#
# This notebook measures the quantiles of a real model (SmolLM2, 135 million
# weights) on real text, one head at a time. It runs on a CPU in about a minute,
# from a clone in which `make reproduce` has made the environment.

# %%
import numpy as np
from matplotlib import pyplot as plt

from experiments import models
from experiments.sift_attention import law_study, quality_study
from experiments.sift_attention import windows as windows_lib
from experiments.sift_attention.configs import smoke
from research.systems.sift_attention import power_law

config = smoke.get_config()
model, tokenizer = models.load(config.model)
windows = windows_lib.cut(
  config.texts,
  tokenizer.encode,
  size=config.window_size,
  count=config.windows,
)
print(
  {name: tokenizer.decode(ids[:12].tolist()) for name, ids in windows.items()}
)

# %% [markdown]
# ## Measure
#
# `log_theta[layer, head, level, row]` holds $\log\theta$ at log-spaced steps.
# Only those rows of scores are ever made, and each quantile is found by
# counting, not by sorting.

# %%
steps = power_law.log_spaced_steps(1, config.window_size, config.rows)
measure = law_study.compile_measure(model, config.levels, steps)
name, tokens = next(iter(windows.items()))
found = measure(tokens)
log_theta = np.asarray(found["log_theta"], np.float64)
print(f"{name}: {float(found['nll']):.2f} nats a token, {log_theta.shape}")

# %% [markdown]
# ## One head, and all of them
#
# Change `layer` and `head` and see how straight the lines are. The dashed line
# has slope −1: what scores of constant shape give, because they sum to one.

# %%
layer, head = 12, 3
late = steps >= config.first_step
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for axes, values, title in (
  (left, log_theta[layer, head], f"layer {layer}, head {head}"),
  (right, log_theta.mean((0, 1)), "average over all heads"),
):
  for level, row in zip(config.levels, values, strict=True):
    law = power_law.fit(row[late], steps[late])
    label = f"τ={level:g}: β={law.beta:.2f}, R²={law.r2:.2f}"
    (dots,) = axes.loglog(steps, np.exp(row), ".", label=label)
    fitted = np.exp(law.predict(steps[late]))
    axes.loglog(steps[late], fitted, color=dots.get_color())
  axes.loglog(steps, 1 / steps, "k--", linewidth=1)
  axes.set(title=title, xlabel="generation step S")
  axes.legend(fontsize=8)
left.set_ylabel("threshold θ")
plt.show()

# %% [markdown]
# ## An average flatters
#
# The law fits the average over heads far better than it fits the heads. That is
# why the experiment reports both distributions and never one for the other.

# %%
heads = power_law.fit(log_theta[..., late], steps[late])
average = power_law.fit(log_theta.mean((0, 1))[..., late], steps[late])
for index, level in enumerate(config.levels):
  low, middle, high = np.quantile(heads.r2[..., index], [0.05, 0.5, 0.95])
  print(
    f"τ={level:<7g} R² of heads {low:.2f} / {middle:.2f} / {high:.2f} "
    f"(5 / 50 / 95 %), of their average {average.r2[index]:.2f}"
  )

# %% [markdown]
# ## The null model
#
# How well does a warm-up predict later thresholds, against $\beta = 1$ with
# only the level fitted?

# %%
level = config.levels.index(config.headline_level)
values, held_out = log_theta[:, :, level], steps > config.window_size // 2
for warmup in config.warmups:
  seen = steps <= warmup
  for label, fit in (("law", power_law.fit), ("null", power_law.fit_null)):
    law = fit(values[..., seen], steps[seen])
    error = np.abs(law.predict(steps[held_out]) - values[..., held_out])
    print(
      f"warm-up {warmup:3d} {label:>4}: p90 {np.quantile(error, 0.9):.2f} nats"
    )

# %% [markdown]
# ## What a policy costs and saves
#
# Now the threshold is used. Each policy masks scores exactly as decoding would,
# in all layers, and two things are counted after the first exact steps: the
# share of value rows read (after the union over the heads that share them) and
# the perplexity above exact attention. Lower and further left is better. One
# window of 256 tokens shows the direction only; add policies, named as
# `experiments.policies` reads them.

# %%
arms = [
  quality_study.Arm(policy=policy, exact_steps=64)
  for policy in (
    "dense",
    "power_law:level=0.75,warmup=64",
    "power_law:level=0.875,warmup=64",
    "relative_to_max:scale=0.5",
    "relative_to_max:scale=2",
  )
]
exact = None
fig, axes = plt.subplots(figsize=(6, 4))
for arm in arms:
  found = quality_study.compile_measure(model, arm)(tokens)
  nll = found["nll"][arm.first :].mean()
  exact = nll if exact is None else exact
  rows = found["rows"][..., 0].mean() / found["live"]
  percent = 100 * np.expm1(nll - exact)
  print(f"{arm.policy:34} rows {rows:.2f}, perplexity {percent:+.1f} %")
  axes.plot(rows, percent, "o", label=arm.policy)
axes.set(xlabel="value rows read", ylabel="perplexity above exact (%)")
axes.legend(fontsize=8)
plt.show()
