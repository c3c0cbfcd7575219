"""Public-domain texts as clean plain text, and windows cut from them."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from research.data import artifacts

_COLLECTIONS = ("shakespeare/", "milton/", "britannica/")

# From this page scan on, the transcription of the article is raw OCR.
_ARTICLE_END = "### START: ED4A809_0"
# Titles, page marks, editors' remarks and side headings, each on its line;
# footnotes with their references; emphasis; escaped full stops.
_ARTICLE_MARKS = re.compile(
  r"^(?:#.*|p\.\d+:\d.*|\[+ed: .*|\[[^\]\n]{1,60}\])[ \t]*$\n?"
  r"|^\[\^\d\]:(?:.+\n)+|\[\^\d\]|\*+|\\(?=\.)",
  re.M,
)
_LINE_NUMBER = re.compile(r"[ \t]{2,}\d+[ \t]*$", re.M)
_LINE_END_SPACE = re.compile(r"[ \t]+$", re.M)
_MANY_BLANK_LINES = re.compile(r"\n{4,}")


def names() -> tuple[str, ...]:
  """Returns the names of all texts, such as "shakespeare/hamlet"."""
  return tuple(n for n in artifacts.names() if n.startswith(_COLLECTIONS))


def load(name: str, *, offline: bool = False, progress: bool = True) -> str:
  """Returns one text, without the transcribers' marks.

  Line ends are "\\n", lines have no trailing spaces, at most two blank lines
  follow one another, and line numbers in the margin are gone.

  Args:
    name: one of `names()`.
    offline: use the cache only.
    progress: show a progress bar if it must be fetched.

  Returns:
    The text, ending in one newline.

  Raises:
    ArtifactError: the text is unknown or cannot be had.
  """
  path = artifacts.fetch(name, offline=offline, progress=progress)
  text = path.read_text("utf-8-sig")  # translates CRLF too
  text = text.rstrip("\x1a\n")  # DOS ended files with this mark
  if name.startswith("britannica/"):
    text = _clean_article(text)
  if name.startswith("milton/"):
    text = _LINE_NUMBER.sub("", text)
  text = _LINE_END_SPACE.sub("", text)
  return _MANY_BLANK_LINES.sub("\n\n\n", text).strip() + "\n"


def _clean_article(text: str) -> str:
  """Keeps the proofread pages up to their last whole sentence."""
  text = text.partition(_ARTICLE_END)[0]
  pages = re.split(r"^### END:.*$", text, flags=re.M)
  pages = [_ARTICLE_MARKS.sub("", page).strip() for page in pages]
  # A page may end inside a sentence, so pages are joined like lines.
  text = "\n".join(page for page in pages if page)
  *_, last = re.finditer(r"[.?!]\"?(?=\s)", text)
  return text[: last.end()]


def windows(
  token_ids: Sequence[int], *, size: int, count: int, seed: int | None = None
) -> Int32[np.ndarray, "{count} {size}"]:
  """Cuts windows that do not overlap out of a token sequence.

  Args:
    token_ids: the tokens of a text, in order.
    size: tokens per window.
    count: number of windows.
    seed: None spreads the windows evenly, the first at the start and the last
      at the end; a number draws their places at random, in order.

  Returns:
    One window per row, in the order of the text.

  Raises:
    ValueError: the text is too short, or a size is not positive.

  Example:
    >>> windows(range(10), size=2, count=3).tolist()
    [[0, 1], [4, 5], [8, 9]]
  """
  if size < 1 or count < 1:
    raise ValueError(
      f"got size {size} and count {count}, expected at least 1 of each"
    )
  slack = len(token_ids) - size * count
  if slack < 0:
    raise ValueError(
      f"the text is too short: got {len(token_ids)} tokens, expected at least "
      f"{size * count} ({count} windows of {size}); ask for fewer or shorter "
      "windows, or take a longer text"
    )
  if seed is None:
    gaps = np.linspace(0, slack, count).round().astype(np.int64)
  else:
    draws = np.random.default_rng(seed).integers(0, slack + 1, count)
    gaps = np.sort(draws)
  starts = gaps + size * np.arange(count)
  places = starts[:, None] + np.arange(size)[None, :]
  return np.asarray(token_ids, np.int32)[places]
