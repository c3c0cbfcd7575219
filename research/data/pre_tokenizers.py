"""How byte-level BPE vocabularies cut text into words before merging.

A GGUF file names its cut in `tokenizer.ggml.pre`; each name stands for the
normaliser, the word pattern and the lookup rule of one family of models.
"""

import dataclasses

import tokenizers
from tokenizers import normalizers, pre_tokenizers

# Contractions, words with one leading mark, runs of digits (1 to 3 or 1),
# punctuation with its line ends, and white space; {digits} differs by family.
_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|"
  r" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclasses.dataclass(frozen=True)
class Family:
  """The rules of one family; see the module's docstring.

  Attributes:
    pattern: how words are found; None means GPT-2's own pattern.
    single_digits: digits are cut off one by one before anything else.
    nfc: text is brought to Unicode's composed form first.
    whole_words: a word that is in the vocabulary is never split by merges.
  """

  pattern: str | None = None
  single_digits: bool = False
  nfc: bool = False
  whole_words: bool = False


FAMILIES: dict[str, Family] = {
  "default": Family(),
  "gpt-2": Family(),
  "smollm": Family(single_digits=True),
  "llama-bpe": Family(
    pattern=_WORDS.format(digits=r"\p{N}{1,3}"), whole_words=True
  ),
  "qwen2": Family(pattern=_WORDS.format(digits=r"\p{N}"), nfc=True),
}


def install(family: Family, tokenizer: tokenizers.Tokenizer) -> None:
  """Gives the tokenizer the family's normaliser and word rules.

  Args:
    family: one of `FAMILIES`.
    tokenizer: changed in place.
  """
  if family.nfc:
    tokenizer.normalizer = normalizers.NFC()
  bytes_only = pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=family.pattern is None
  )
  if family.single_digits:
    steps = [pre_tokenizers.Digits(individual_digits=True), bytes_only]
  elif family.pattern is not None:
    words = tokenizers.Regex(family.pattern)
    steps = [pre_tokenizers.Split(words, behavior="isolated"), bytes_only]
  else:
    steps = [bytes_only]
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
