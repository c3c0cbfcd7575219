"""Text to token ids and back, from a GGUF file or a `tokenizer.json`."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models

from research.data import gguf, pre_tokenizers

_CONTROL, _USER_DEFINED = 3, 4
_REPLACEMENT = "\ufffd"
# Models round their vocabulary up for the hardware; more spare rows than this
# share of the vocabulary mean that the tokenizer is another model's.
_MAX_SPARE = 0.1


class TokenizerError(ValueError):
  """A tokenizer cannot be built, or does not belong to the model."""


class Tokenizer:
  """Encodes text and decodes ids.

  Attributes:
    vocab_size: one more than the largest id.
    bos_id: id that opens a text, or None.
    eos_id: id that ends a text, or None.
    adds_bos: the model expects `bos_id` before a plain text. `encode` leaves
      that to the caller, because chat templates write it themselves.
    chat_template: jinja2 source of the chat template, or None.
  """

  def __init__(
    self,
    backend: tokenizers.Tokenizer,
    *,
    bos_id: int | None,
    eos_id: int | None,
    adds_bos: bool,
    chat_template: str | None,
  ):
    self._backend = backend
    self.vocab_size = max(backend.get_vocab().values(), default=-1) + 1
    self.bos_id = bos_id
    self.eos_id = eos_id
    self.adds_bos = adds_bos
    self.chat_template = chat_template

  @classmethod
  def from_gguf(cls, file: gguf.GGUFFile) -> "Tokenizer":
    """Builds the byte-level BPE tokenizer that a GGUF file holds.

    Args:
      file: an opened model file.

    Returns:
      Its tokenizer, with the file's chat template.

    Raises:
      TokenizerError: no vocabulary, or one of a kind not known here.
    """
    meta = file.metadata
    return cls(
      _byte_level_bpe(file),
      bos_id=meta.get("tokenizer.ggml.bos_token_id"),
      eos_id=meta.get("tokenizer.ggml.eos_token_id"),
      adds_bos=meta.get(
        "tokenizer.ggml.add_bos_token",
        meta.get("tokenizer.ggml.pre") == "llama-bpe",
      ),
      chat_template=meta.get("tokenizer.chat_template"),
    )

  @classmethod
  def from_file(cls, path: str | os.PathLike[str]) -> "Tokenizer":
    """Loads a `tokenizer.json`, with `tokenizer_config.json` beside it.

    Args:
      path: the `tokenizer.json`. Start and end tokens and the chat template
        come from `tokenizer_config.json` (and `chat_template.jinja`) in the
        same folder where they exist.

    Returns:
      The tokenizer.

    Raises:
      TokenizerError: a file is missing or malformed.
    """
    path = pathlib.Path(path)
    try:
      backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
      raise TokenizerError(
        f"{path}: cannot be read as tokenizer.json: {_one_line(error)}"
      ) from None
    config = _read_config(path.with_name("tokenizer_config.json"))
    return cls(
      backend,
      bos_id=_token_id(backend, config.get("bos_token")),
      eos_id=_token_id(backend, config.get("eos_token")),
      adds_bos=bool(config.get("add_bos_token", False)),
      chat_template=_config_template(path, config),
    )

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`; special tokens in it become their ids.

    Bytes that the vocabulary lacks are left out, as in other engines: SmolLM2
    has no token for a few control characters and for U+40000 and above.

    Raises:
      TokenizerError: the text holds a lone surrogate.
    """
    try:
      text.encode()
    except UnicodeEncodeError as error:
      raise TokenizerError(
        f"got {text[error.start]!r} as character {error.start} of the text, "
        "expected Unicode; pass text that is valid UTF-8"
      ) from None
    return self._backend.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of `ids`, special tokens included.

    Bytes that are no UTF-8 become U+FFFD, ids without a token nothing.
    """
    return self._backend.decode(list(ids), skip_special_tokens=False)

  def to_json(self) -> str:
    """Returns the content of a `tokenizer.json` that makes the same ids."""
    return self._backend.to_str()

  def token(self, id: int | None) -> str | None:
    """Returns the text of one special id, as chat templates want it."""
    return None if id is None else self._backend.id_to_token(id)

  def check_vocab(self, model_vocab_size: int) -> None:
    """Checks that the tokenizer can belong to a model.

    Args:
      model_vocab_size: rows of the model's embedding. A few more rows than
        tokens are usual (padding); fewer rows, or many more, are not.

    Raises:
      TokenizerError: mismatched tokenizer.
    """
    spare = model_vocab_size - self.vocab_size
    if 0 <= spare <= _MAX_SPARE * model_vocab_size:
      return
    raise TokenizerError(
      f"mismatched tokenizer: got {self.vocab_size} tokens, expected the "
      f"model's {model_vocab_size} (up to {_MAX_SPARE:.0%} may be padding); "
      "use the tokenizer that came with the model"
    )


class StreamDecoder:
  """Decodes ids one at a time and never emits half a character.

  The pieces joined equal `Tokenizer.decode` of all ids, for any ids of a
  byte-level vocabulary.

  Args:
    tokenizer: decodes the ids.
  """

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    # Ids of the last finished piece (decoders that join words need to see
    # what came before) and ids since then, of which `_sent` are out already.
    self._context: list[int] = []
    self._pending: list[int] = []
    self._sent = 0

  def push(self, id: int) -> str:
    """Takes the next id; returns the text that is now certain."""
    self._pending.append(id)
    text = self._tail()
    certain = text.rstrip(_REPLACEMENT)
    piece = certain[self._sent :]
    if text and certain == text:
      self._context, self._pending, self._sent = self._pending, [], 0
    else:
      self._sent = max(self._sent, len(certain))
    return piece

  def flush(self) -> str:
    """Returns what was held back, as `Tokenizer.decode` would show it."""
    piece = self._tail()[self._sent :]
    self._context, self._pending, self._sent = [], [], 0
    return piece

  def _tail(self) -> str:
    before = self._tokenizer.decode(self._context)
    return self._tokenizer.decode(self._context + self._pending)[len(before) :]


def _one_line(error: BaseException) -> str:
  return " ".join(str(error).split()) or type(error).__name__


def _required(file: gguf.GGUFFile, key: str) -> Any:
  if key in file.metadata:
    return file.metadata[key]
  raise TokenizerError(
    f"{file.path}: no tokenizer in this file: {key} is missing; use a model "
    "file that holds its vocabulary"
  )


def _byte_level_bpe(file: gguf.GGUFFile) -> tokenizers.Tokenizer:
  model = _required(file, "tokenizer.ggml.model")
  if model != "gpt2":
    raise TokenizerError(
      f"{file.path}: got tokenizer.ggml.model {model!r}, expected 'gpt2' "
      "(byte-level BPE); load the model's tokenizer.json instead"
    )
  pre = file.metadata.get("tokenizer.ggml.pre", "default")
  family = pre_tokenizers.FAMILIES.get(pre)
  if family is None:
    raise TokenizerError(
      f"{file.path}: got tokenizer.ggml.pre {pre!r}, expected one of "
      f"{', '.join(pre_tokenizers.FAMILIES)}; load the model's "
      "tokenizer.json instead"
    )
  tokens = _required(file, "tokenizer.ggml.tokens")
  merges = _required(file, "tokenizer.ggml.merges")
  try:
    bpe = models.BPE(
      vocab={token: id for id, token in enumerate(tokens)},
      merges=[tuple(merge.split(" ", 1)) for merge in merges],
      ignore_merges=family.whole_words,
    )
  except Exception as error:  # the library raises bare exceptions
    raise TokenizerError(
      f"{file.path}: the vocabulary is corrupt: {_one_line(error)}"
    ) from None
  tokenizer = tokenizers.Tokenizer(bpe)
  pre_tokenizers.install(family, tokenizer)
  tokenizer.decoder = decoders.ByteLevel()
  kinds = file.metadata.get("tokenizer.ggml.token_type", [])
  _add_special(tokenizer, tokens, [int(kind) for kind in kinds])
  return tokenizer


def _add_special(
  tokenizer: tokenizers.Tokenizer, tokens: list[str], kinds: Sequence[int]
) -> None:
  """Marks control and user-defined tokens, which merges never build."""
  added = [
    tokenizers.AddedToken(
      token, special=bool(kind == _CONTROL), normalized=False
    )
    for token, kind in zip(tokens, kinds, strict=False)
    if kind in (_CONTROL, _USER_DEFINED)
  ]
  tokenizer.add_tokens(added)


def _read_config(path: pathlib.Path) -> dict[str, Any]:
  if not path.exists():
    return {}
  try:
    return json.loads(path.read_text("utf-8"))
  except ValueError as error:
    raise TokenizerError(f"{path}: not JSON: {_one_line(error)}") from None


def _token_id(backend: tokenizers.Tokenizer, token: Any) -> int | None:
  """Looks up a token of the config: text, or a record with its content."""
  if isinstance(token, dict):
    token = token.get("content")
  return None if token is None else backend.token_to_id(token)


def _config_template(path: pathlib.Path, config: dict[str, Any]) -> str | None:
  beside = path.with_name("chat_template.jinja")
  if beside.exists():
    return beside.read_text("utf-8")
  template = config.get("chat_template")
  if isinstance(template, list):  # several named templates
    named = {entry["name"]: entry["template"] for entry in template}
    return named.get("default")
  return template
