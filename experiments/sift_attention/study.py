"""Measures the quantiles of a real model's attention scores on real text."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from experiments import models
from experiments.sift_attention import analysis, claims, figures
from experiments.sift_attention import config as config_lib
from research import runs
from research.data import texts
from research.runs import config as runs_config
from research.systems.sift_attention import power_law, quantiles
from research.transformer import checkpoints, decoder

_BLOCK = 128  # rows of scores that exist at once; also tokens of logits

Measure = Callable[[np.ndarray], dict[str, Array]]


def run(config: config_lib.Config, context: runs.Context) -> runs.Result:
  """Runs the study.

  Args:
    config: the settings.
    context: where to put what it makes.

  Returns:
    The judged claims.
  """
  config.check()
  model, tokenizer = models.load(config.model)
  windows = cut_windows(config, tokenizer.encode)
  steps = power_law.log_spaced_steps(1, config.window_size, config.rows)
  measure = compile_measure(model, config.levels, steps)
  units = context.units("windows").map(
    list(windows), lambda name: measure(windows[name])
  )
  first = next(iter(windows))
  every = np.arange(1, config.window_size + 1)
  measure_all = compile_measure(model, config.levels, every)
  check = context.units("check").map(
    [first], lambda name: measure_all(windows[name])
  )
  with context.metrics() as metrics:
    for index, unit in enumerate(units.values()):
      metrics.scalars(index, {"text/nll_nats": float(unit["nll"])})
  findings = analysis.analyse(
    config,
    steps=steps,
    log_theta=np.stack([unit["log_theta"] for unit in units.values()]),
    texts=[name.split(".")[0] for name in windows],
    check=check[first]["log_theta"],
  )
  figures.draw(config, findings, context)
  return runs.Result(
    paper="sift_attention",
    config=runs_config.to_dict(config),
    claims=claims.judge(config, findings),
  )


def rehearse(config: config_lib.Config) -> str:
  """Says what a run would do.

  Args:
    config: the settings.
  """
  config.check()
  steps = power_law.log_spaced_steps(1, config.window_size, config.rows)
  return (
    f"{len(config.texts) * config.windows} windows of {config.window_size} "
    f"tokens, {len(steps)} steps each, levels {config.levels}; one window "
    "again at every step"
  )


def cut_windows(
  config: config_lib.Config, encode: Callable[[str], list[int]]
) -> dict[str, Int[np.ndarray, " tokens"]]:
  """Cuts every text's windows, evenly spread.

  Args:
    config: the settings.
    encode: the tokenizer.

  Returns:
    Token numbers by window, named `text.number`.
  """
  windows = {}
  for name in config.texts:
    rows = texts.windows(
      encode(texts.load(name)), size=config.window_size, count=config.windows
    )
    for number, row in enumerate(rows):
      windows[f"{name.split('/')[-1]}.{number}"] = row
  return windows


def compile_measure(
  model: checkpoints.Model,
  levels: tuple[float, ...],
  steps: Int[np.ndarray, " rows"],
) -> Measure:
  """Compiles the measurement of one window.

  Args:
    model: the language model.
    levels: quantile levels.
    steps: generation steps to measure; scores exist for 128 of them at once.

  Returns:
    A function from a window's tokens to `log_theta`
    `[layer, head, level, row]` and `nll`, the mean in nats a token.
  """
  pad = -len(steps) % _BLOCK
  blocks = np.pad(steps, (0, pad), mode="edge").reshape(-1, _BLOCK)

  def tap(q, k):
    one = lambda block: quantiles.log_score_quantiles(
      q, k, steps=block, levels=levels
    )[0]
    found = jax.lax.map(one, jnp.asarray(blocks))  # [block, head, level, row]
    found = jnp.moveaxis(found, 0, -2)
    return found.reshape(*found.shape[:2], -1)[..., : len(steps)]

  @jax.jit
  def measure(state, tokens):
    bound = model.bind(state)
    out = bound(tokens[None], taps=decoder.Taps(attention=tap))
    nll = _mean_nll(bound, out.hidden, tokens)
    return {"log_theta": jnp.stack(out.attention_taps), "nll": nll}

  return lambda tokens: measure(model.state, jnp.asarray(tokens))


def _mean_nll(
  bound: decoder.Decoder,
  hidden: Float[Array, "1 tokens embed"],
  tokens: Int[Array, " tokens"],
) -> Any:
  """Mean negative log-likelihood, holding few rows of logits at a time."""
  total = jnp.zeros(())
  for start in range(0, len(tokens) - 1, _BLOCK):
    stop = min(start + _BLOCK, len(tokens) - 1)
    logits = bound.logits(hidden[:, start:stop])[0]
    chosen = tokens[start + 1 : stop + 1]
    log_chances = jax.nn.log_softmax(logits, axis=-1)
    total -= jnp.take_along_axis(log_chances, chosen[:, None], axis=1).sum()
  return total / (len(tokens) - 1)
