"""Measures the quantiles of a real model's attention scores on real text."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from experiments.sift_attention import config as config_lib
from experiments.sift_attention import (
  law_analysis,
  law_claims,
  law_figures,
  windows,
)
from research import runs
from research.systems.sift_attention import power_law, quantiles
from research.transformer import checkpoints, decoder

_BLOCK = 128  # rows of scores that exist at once

Measure = Callable[[np.ndarray], dict[str, Array]]


def run(
  config: config_lib.Config,
  context: runs.Context,
  model: checkpoints.Model,
  encode: Callable[[str], list[int]],
) -> tuple[runs.Claim, ...]:
  """Measures, judges and draws the law.

  Args:
    config: the settings.
    context: where to put what it makes.
    model: the language model.
    encode: its tokenizer.

  Returns:
    The judged claims.
  """
  texts = windows.cut(
    config.texts, encode, size=config.window_size, count=config.windows
  )
  steps = power_law.log_spaced_steps(1, config.window_size, config.rows)
  measure = compile_measure(model, config.levels, steps)
  units = context.units("windows").map(
    list(texts), lambda name: measure(texts[name])
  )
  first = next(iter(texts))
  every = np.arange(1, config.window_size + 1)
  measure_all = compile_measure(model, config.levels, every)
  check = context.units("check").map(
    [first], lambda name: measure_all(texts[name])
  )
  with context.metrics() as metrics:
    for index, unit in enumerate(units.values()):
      metrics.scalars(index, {"text/nll_nats": float(unit["nll"])})
  findings = law_analysis.analyse(
    config,
    steps=steps,
    log_theta=np.stack([unit["log_theta"] for unit in units.values()]),
    texts=[name.split(".")[0] for name in texts],
    check=check[first]["log_theta"],
  )
  law_figures.draw(config, findings, context)
  return law_claims.judge(config, findings)


def rehearse(config: config_lib.Config) -> str:
  """Says what a run would do.

  Args:
    config: the settings.
  """
  steps = power_law.log_spaced_steps(1, config.window_size, config.rows)
  return (
    f"{len(config.texts) * config.windows} windows of {config.window_size} "
    f"tokens, {len(steps)} steps each, levels {config.levels}; one window "
    "again at every step"
  )


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

  @jax.jit  # layers share a trace
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
    nll = windows.token_nll(bound, out.hidden, tokens).mean()
    return {"log_theta": jnp.stack(out.attention_taps), "nll": nll}

  return lambda tokens: measure(model.state, jnp.asarray(tokens))
