"""Names of models, resolved to weights and tokenizer."""

import difflib
import pathlib

from research.data import artifacts, gguf, tokenizer
from research.runs import errors
from research.transformer import checkpoints
from research.transformer.checkpoints import gguf as gguf_checkpoint
from research.transformer.checkpoints import hugging_face

#: Short names of models that come as outside artefacts. Nothing fetches the
#: second one unasked: it is 1.1 GB, and 7.1 GB in memory.
ARTIFACTS = {
  "smollm2-135m": "smollm2-135m-instruct-q4_1",
  "qwen2.5-coder-1.5b": "qwen2.5-coder-1.5b-instruct-q4_k_m",
}


def load(
  name: str, *, offline: bool = False
) -> tuple[checkpoints.Model, tokenizer.Tokenizer]:
  """Loads a model and its tokenizer.

  Args:
    name: a short name, a GGUF file, or a Hugging Face folder with
      `tokenizer.json` in it.
    offline: use only what is in the cache.

  Returns:
    The model and its tokenizer, checked against each other.

  Raises:
    UserError: if the name is neither.
  """
  path = pathlib.Path(name)
  if path.is_dir():
    model = hugging_face.load(path)
    words = tokenizer.Tokenizer.from_file(path / "tokenizer.json")
  else:
    path = path if path.is_file() else fetch(name, offline=offline)
    words = tokenizer.Tokenizer.from_gguf(gguf.GGUFFile.open(path))
    model = gguf_checkpoint.load(path)
  words.check_vocab(model.config.vocab_size)
  return model, words


def fetch(name: str, *, offline: bool = False) -> pathlib.Path:
  """Returns the file of a model that comes as an outside artefact.

  Args:
    name: one of `ARTIFACTS`.
    offline: use only what is in the cache.

  Raises:
    UserError: if the name is none.
  """
  if name in ARTIFACTS:
    return artifacts.fetch(ARTIFACTS[name], offline=offline)
  near = difflib.get_close_matches(name, ARTIFACTS, n=1)
  hint = f"; did you mean {near[0]}?" if near else ""
  raise errors.UserError(
    f"unknown model: got {name!r}, expected one of {', '.join(ARTIFACTS)}, a "
    f"GGUF file or a folder with config.json{hint}"
  )
