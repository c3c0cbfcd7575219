"""Generates text from a prompt, token by token.

  python -m experiments.tools.generate --model=smollm2-135m \
    --prompt="What is the capital of France?"

With `--policy` it attends only to what a policy of SiftAttention keeps, and
says how much that was. Speeds go to standard error, so standard output is the
text alone.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments import models, policies
from research import runs
from research.cluster import probe, setup
from research.data import artifacts, chat, gguf, tokenizer
from research.inference import generation, sampling, stopping
from research.runs import experiment
from research.systems.sift_attention import generation as sifted
from research.systems.sift_attention import spending
from research.telemetry import metrics
from research.transformer import checkpoints

_MODEL = flags.DEFINE_string(
  "model", "smollm2-135m", "Short name, GGUF file or Hugging Face folder."
)
_PROMPT = flags.DEFINE_string("prompt", "", "The prompt.")
_RAW = flags.DEFINE_bool("raw", False, "Continue the prompt without a chat.")
_MAX_TOKENS = flags.DEFINE_integer(
  "max_tokens", 128, "Most tokens to generate.", lower_bound=1
)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "0 is greedy.")
_TOP_K = flags.DEFINE_integer("top_k", 0, "Keep this many tokens; 0 is all.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Keep this much probability.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the draws.")
_STOP = flags.DEFINE_multi_string("stop", [], "Text that ends the answer.")
_POLICY = flags.DEFINE_string(
  "policy", "", "Which values to read: name:option=number,...; '' is all."
)
_METRICS = flags.DEFINE_string(
  "metrics", "", "Folder for what a policy read, by layer and head."
)
_OFFLINE = flags.DEFINE_bool("offline", False, "Use only what is cached.")

_USER_ERRORS = (
  runs.UserError,
  artifacts.ArtifactError,
  chat.ChatTemplateError,
  checkpoints.CheckpointError,
  generation.PromptError,
  gguf.GGUFError,
  sampling.SamplingError,
  tokenizer.TokenizerError,
)


def main(argv: Sequence[str]) -> int:
  """Generates what the flags ask for."""
  del argv
  try:
    _generate()
  except _USER_ERRORS as error:
    return experiment.report_user_error(error)
  return 0


def _generate() -> None:
  setup()
  settings = sampling.Sampling(
    temperature=_TEMPERATURE.value,
    top_k=_TOP_K.value,
    top_p=_TOP_P.value,
    seed=_SEED.value,
  )
  if not _PROMPT.value.strip():
    raise generation.PromptError(
      "empty prompt: got no text, expected some; give --prompt='...'"
    )
  attention = _attention()
  model, words = models.load(_MODEL.value, offline=_OFFLINE.value)
  prompt = encode_prompt(words, _PROMPT.value, raw=_RAW.value)
  generator = generation.Generator(model, attention=attention)
  generator.warm_up(1, prompt_tokens=len(prompt), max_tokens=_MAX_TOKENS.value)
  timing = generation.Timing()
  states: list[Any] = []
  steps = generator.stream(
    [prompt],
    [settings],
    max_tokens=_MAX_TOKENS.value,
    timing=timing,
    at_end=states.extend,
  )
  until = stopping.StopText(words, _STOP.value)
  for tokens in steps:
    print(until.push(int(tokens[0])), end="", flush=True)
    if until.stopped:
      break
  steps.close()
  print(until.flush())
  print(_speeds(model, len(prompt), timing), file=sys.stderr)
  if attention is not None and timing.steps:
    print(spending.summary(states), file=sys.stderr)
    if _METRICS.value:
      with metrics.MetricWriter(pathlib.Path(_METRICS.value)) as writer:
        writer.scalars(timing.steps, spending.metrics(states))


def _attention() -> sifted.Sifted | None:
  if _POLICY.value:
    choice = policies.parse(_POLICY.value)
    return sifted.Sifted(choice.policy, choice.always)
  if _METRICS.value:
    raise runs.UserError(
      "--metrics: got no policy whose reading to record, expected one; give "
      "--policy=NAME or leave out --metrics"
    )
  return None


def encode_prompt(
  words: tokenizer.Tokenizer, text: str, *, raw: bool
) -> list[int]:
  """Encodes a prompt, as a chat turn where the model has a chat template.

  Args:
    words: the tokenizer.
    text: what the user wrote.
    raw: leave it as it is.

  Returns:
    Token numbers.
  """
  if words.chat_template is not None and not raw:
    turn = {"role": "user", "content": text}
    return words.encode(
      chat.render(
        words.chat_template,
        [turn],
        bos_token=words.token(words.bos_id),
        eos_token=words.token(words.eos_id),
      )
    )
  start = [words.bos_id] if words.adds_bos and words.bos_id is not None else []
  return start + words.encode(text)


def _speeds(
  model: checkpoints.Model, prompt_tokens: int, timing: generation.Timing
) -> str:
  prefill = prompt_tokens / timing.prefill_s
  line = f"prefill {prompt_tokens} tokens at {prefill:.0f} tokens/s"
  if timing.steps:
    step = timing.decode_s / timing.steps
    limit = model.bytes_per_step / probe.memory_bandwidth()
    line += (
      f"; decode {timing.steps} tokens at {1 / step:.1f} tokens/s, "
      f"{limit / step:.0%} of the memory-bandwidth limit "
      f"({1 / limit:.1f} tokens/s)"
    )
  return line


if __name__ == "__main__":
  runs.launch(main)
