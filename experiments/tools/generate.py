"""Generates text from a prompt, token by token.

  python -m experiments.tools.generate --model=smollm2-135m \
    --prompt="What is the capital of France?"

Speeds go to standard error, so standard output is the text alone.
"""

import sys
from collections.abc import Sequence

from absl import flags

from experiments import models
from research import runs
from research.cluster import probe, setup
from research.data import artifacts, chat, gguf, tokenizer
from research.inference import generation, sampling, stopping
from research.runs import experiment
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
  model, words = models.load(_MODEL.value, offline=_OFFLINE.value)
  prompt = encode_prompt(words, _PROMPT.value, raw=_RAW.value)
  generator = generation.Generator(model)
  generator.warm_up(1, prompt_tokens=len(prompt), max_tokens=_MAX_TOKENS.value)
  timing = generation.Timing()
  steps = generator.stream(
    [prompt], [settings], max_tokens=_MAX_TOKENS.value, timing=timing
  )
  until = stopping.StopText(words, _STOP.value)
  for tokens in steps:
    print(until.push(int(tokens[0])), end="", flush=True)
    if until.stopped:
      break
  print(until.flush())
  print(_speeds(model, len(prompt), timing), file=sys.stderr)


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
