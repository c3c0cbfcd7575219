"""Synthetic retrieval: does a policy still find one pair among many?

The prompts are made up, and a small model often fails them under exact
attention too; so what counts is whether a policy answers as exact attention
does, and what it makes of the right answer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from experiments import policies
from experiments.sift_attention import config as config_lib
from research import runs
from research.systems.sift_attention import teacher_forced
from research.transformer import checkpoints

_SYLLABLES = ("ba", "di", "ko", "lu", "me", "na", "po", "ri", "su", "te", "vo")
_DIGITS = 4


def run(
  config: config_lib.Config,
  context: runs.Context,
  model: checkpoints.Model,
  encode: Callable[[str], list[int]],
) -> dict[str, dict[int, tuple[float, float]]]:
  """Measures retrieval under some policies.

  Args:
    config: the settings.
    context: where the units go.
    model: the language model.
    encode: its tokenizer.

  Returns:
    By policy and prompt length: the share of answer tokens that are exact
    attention's, and nats a token of the right answer.
  """
  settings = config.quality
  names = ("dense", settings.paper_policy, settings.best_policy)
  if not settings.retrieval_lengths:
    return {}
  places = {
    f"{number}.{length}.{index}": (name, length, index)
    for number, name in enumerate(names)
    for length in settings.retrieval_lengths
    for index in range(settings.retrieval_prompts)
  }

  def measure(unit: str):
    name, length, index = places[unit]
    tokens, answer = prompt(encode, length, seed=(config.seed, length, index))
    return _answer(model, name, settings.exact_steps, tokens, answer)

  units = context.units("retrieval").map(list(places), measure)
  done = {place: units[unit] for unit, place in places.items()}
  return {
    name: {
      length: _summary(done, name, length, settings.retrieval_prompts)
      for length in settings.retrieval_lengths
    }
    for name in names
  }


def prompt(
  encode: Callable[[str], list[int]], length: int, seed: tuple[int, ...]
) -> tuple[Int[np.ndarray, " tokens"], int]:
  """Makes one prompt: pairs of names and numbers, then a name again.

  Args:
    encode: the tokenizer.
    length: most tokens.
    seed: of the pairs and of the one that is asked for.

  Returns:
    The tokens, the right answer last, and how many tokens it has.
  """
  draw = np.random.default_rng(seed)
  pairs, size = {}, 0
  while True:
    name = "".join(draw.choice(_SYLLABLES, 3)).capitalize()
    code = "".join(str(digit) for digit in draw.integers(0, 10, _DIGITS))
    line = f"The code of {name} is {code}.\n"
    size += len(encode(line))
    if size > length - 32:  # the question fits in 32 tokens
      break
    pairs[name] = code
  asked = list(pairs)[int(draw.integers(len(pairs)))]
  text = "".join(f"The code of {n} is {c}.\n" for n, c in pairs.items())
  asking = f"{text}The code of {asked} is "  # digits are tokens of their own
  whole, start = encode(f"{asking}{pairs[asked]}"), len(encode(asking))
  return np.asarray(whole, np.int32), len(whole) - start


def _answer(
  model: checkpoints.Model,
  name: str,
  exact_steps: int,
  tokens: np.ndarray,
  answer: int,
) -> dict[str, np.ndarray]:
  choice = policies.parse(name)
  attention = teacher_forced.TeacherForced(
    choice.policy, choice.always, exact_steps=exact_steps, blocks=(1,)
  )
  # Padded, so that prompts of a length share a program; nothing looks ahead.
  padded = np.pad(tokens, (0, -len(tokens) % 64))
  bound = model.bind(model.state)
  hidden = bound(jnp.asarray(padded)[None], attention=attention).hidden
  first = len(tokens) - answer - 1
  logits = bound.logits(hidden[:, first : first + answer])[0]
  chances = jax.nn.log_softmax(logits)
  right = jnp.asarray(tokens[first + 1 :])
  return {
    "chosen": np.asarray(chances.argmax(-1)),
    "nll": -np.asarray(chances[jnp.arange(answer), right]),
  }


def _summary(done, name: str, length: int, count: int) -> tuple[float, float]:
  """Agreement with exact attention and nats a token, over all prompts."""
  units = [done[name, length, index] for index in range(count)]
  dense = [done["dense", length, index] for index in range(count)]
  same = [
    unit["chosen"] == exact["chosen"]
    for unit, exact in zip(units, dense, strict=True)
  ]
  nll = np.concatenate([unit["nll"] for unit in units])
  return float(np.concatenate(same).mean()), float(nll.mean())
