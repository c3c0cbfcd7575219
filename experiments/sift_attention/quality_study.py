"""Measures what policies cost in quality and save in traffic, on real text."""

import dataclasses
import re
from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from experiments import policies
from experiments.sift_attention import config as config_lib
from experiments.sift_attention import (
  quality_analysis,
  quality_claims,
  quality_figures,
  retrieval,
  windows,
)
from research import runs
from research.runs import units as units_lib
from research.systems.sift_attention import teacher_forced
from research.transformer import checkpoints

BLOCKS = (1, 16, 64, 128)  # rows that are skipped together

Encode = Callable[[str], list[int]]
Measure = Callable[[Int[np.ndarray, " tokens"]], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
  """One way of attending to windows; see `teacher_forced.TeacherForced`."""

  policy: str
  exact_steps: int
  prompt: int = 0
  prompt_rows: int = 0
  renormalise: bool = True

  @property
  def name(self) -> str:
    """A name for its units."""
    policy = re.sub(r"[^A-Za-z0-9.]+", "-", self.policy)
    raw = "" if self.renormalise else ".raw"
    prompt = f".after-{self.prompt}-{self.prompt_rows}" if self.prompt else ""
    return f"{policy}.exact-{self.exact_steps}{prompt}{raw}"

  @property
  def first(self) -> int:
    """How many first steps do not count."""
    return self.prompt + self.exact_steps

  def attention(self) -> teacher_forced.TeacherForced:
    """Returns what the decoder is called with."""
    choice = policies.parse(self.policy)
    return teacher_forced.TeacherForced(
      choice.policy,
      choice.always,
      exact_steps=self.exact_steps,
      prompt=self.prompt,
      prompt_rows=self.prompt_rows,
      renormalise=self.renormalise,
      blocks=BLOCKS,
    )


def run(
  config: config_lib.Config,
  context: runs.Context,
  model: checkpoints.Model,
  encode: Encode,
) -> tuple[runs.Claim, ...]:
  """Measures, judges and draws.

  Args:
    config: the settings.
    context: where to put what it makes.
    model: the language model.
    encode: its tokenizer.

  Returns:
    The judged claims.
  """
  settings = config.quality
  texts = windows.cut(
    config.texts, encode, size=settings.window_size, count=settings.windows
  )
  few = [n for n in texts if int(n.split(".")[1]) < settings.few_windows]
  work = {arm: list(texts) for arm in compared_arms(settings)}
  for arm in few_arms(settings):
    work.setdefault(arm, few)
  stage = context.units("quality")
  done = _measure(stage, work, texts, model)
  dense = {name: done[_dense(settings).name, name]["nll"] for name in texts}
  pick = lambda arm, names: _measured(arm, names, done, dense)
  found = quality_analysis.Quality(
    texts=[name.split(".")[0] for name in texts],
    policies={
      name: pick(_arm(settings, name), texts)
      for name in ("dense", *settings.policies)
    },
    raw={
      name: pick(_arm(settings, name, renormalise=False), texts)
      for name in settings.raw
    },
    warmups={
      length: pick(arm, few) for length, arm in warmup_arms(settings).items()
    },
    prompts={key: pick(arm, few) for key, arm in prompt_arms(settings).items()},
    retrieval=retrieval.run(config, context, model, encode),
  )
  quality_figures.draw(config, found, context)
  return quality_claims.judge(config, found)


def rehearse(config: config_lib.Config) -> str:
  """Says what a run would do.

  Args:
    config: the settings.
  """
  settings = config.quality
  many, few = len(compared_arms(settings)), len(few_arms(settings))
  count = len(config.texts)
  return (
    f"{many} settings of policies on {count * settings.windows} windows of "
    f"{settings.window_size} tokens, {few} more on "
    f"{count * settings.few_windows}; retrieval from prompts of "
    f"{settings.retrieval_lengths} tokens"
  )


def compared_arms(settings: config_lib.Quality) -> list[Arm]:
  """Returns what is measured on all windows."""
  named = [_arm(settings, name) for name in settings.policies]
  raw = [_arm(settings, name, renormalise=False) for name in settings.raw]
  return [_dense(settings), *named, *raw]


def few_arms(settings: config_lib.Quality) -> list[Arm]:
  """Returns what is measured on few windows."""
  return [*warmup_arms(settings).values(), *prompt_arms(settings).values()]


def warmup_arms(settings: config_lib.Quality) -> dict[int, Arm]:
  """The paper's policy by warm-up; all count after the longest."""
  longest = max((settings.exact_steps, *settings.warmups))
  swap = lambda n: re.sub(r"warmup=\d+", f"warmup={n}", settings.paper_policy)
  return {
    length: Arm(policy=swap(length), exact_steps=longest)
    for length in settings.warmups
  }


def prompt_arms(settings: config_lib.Quality) -> dict[tuple[int, str], Arm]:
  """The paper's policy after a prompt, learning after it or from it."""
  rows = int(settings.paper_policy.split("warmup=")[1].split(",")[0])
  return {
    (prompt, method): Arm(
      policy=settings.paper_policy,
      exact_steps=settings.exact_steps,
      prompt=prompt,
      prompt_rows=rows if method == "prompt" else 0,
    )
    for prompt in settings.prompts
    for method in ("literal", "prompt")
  }


def compile_measure(model: checkpoints.Model, arm: Arm) -> Measure:
  """Prepares the measurement of one window.

  The layers are called one by one, not as one program, so that they share the
  compiled attention of a policy.

  Args:
    model: the language model.
    arm: how to attend.

  Returns:
    A function from a window's tokens to `nll` `[predicted]`, `kept` and `mass`
    `[layer, head]`, `rows` `[layer, kv_head, block]` and `live`.
  """
  bound, attention = model.bind(model.state), arm.attention()

  def measure(tokens):
    tokens = jnp.asarray(tokens)
    out = bound(tokens[None], attention=attention)
    counts = {
      key: np.stack([np.asarray(getattr(c, key)) for c in out.states])
      for key in ("kept", "mass", "rows")
    }
    return {
      "nll": np.asarray(windows.token_nll(bound, out.hidden, tokens)),
      "live": np.asarray(out.states[0].live),
      **{key: value[:, 0] for key, value in counts.items()},
    }

  return measure


def _dense(settings: config_lib.Quality) -> Arm:
  return _arm(settings, "dense")


def _arm(settings: config_lib.Quality, name: str, **more: bool) -> Arm:
  return Arm(policy=name, exact_steps=settings.exact_steps, **more)


def _measure(
  stage: units_lib.Units,
  work: dict[Arm, list[str]],
  texts: dict[str, np.ndarray],
  model: checkpoints.Model,
) -> dict[tuple[str, str], units_lib.Arrays]:
  """Runs every arm on its windows; arrays by arm's and window's name."""
  places = {
    f"{arm.name}.{name}": (arm, name)
    for arm, names in work.items()
    for name in names
  }
  made: dict[Arm, Measure] = {}

  def measure(unit: str):
    arm, name = places[unit]
    if arm not in made:
      made.clear()  # one program at a time
      made[arm] = compile_measure(model, arm)
    return made[arm](texts[name])

  done = stage.map(list(places), measure)
  return {(arm.name, name): done[unit] for unit, (arm, name) in places.items()}


def _measured(
  arm: Arm,
  names: Iterable[str],
  done: dict[tuple[str, str], units_lib.Arrays],
  dense: dict[str, np.ndarray],
) -> quality_analysis.Measured:
  """Puts an arm's windows together, counted after its exact steps."""
  names = list(names)
  units = [done[arm.name, name] for name in names]
  live = np.array([unit["live"] for unit in units], np.float64)
  stack = lambda key: np.stack([unit[key] for unit in units])
  rows = stack("rows").mean((1, 2), dtype=np.float64) / live[:, None]
  steps = len(units[0]["nll"]) + 1 - arm.first
  return quality_analysis.Measured(
    nll=np.array([unit["nll"][arm.first :].mean() for unit in units]),
    dense=np.array([dense[name][arm.first :].mean() for name in names]),
    kept=stack("kept") / live[:, None, None],
    rows={block: rows[:, index] for index, block in enumerate(BLOCKS)},
    mass=stack("mass") / steps,
  )
