import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.data import artifacts, texts


def _load(name: str) -> str:
  try:
    return texts.load(name, progress=False)
  except artifacts.ArtifactError as error:
    pytest.skip(str(error))


def test_names_hold_texts_only():
  names = texts.names()
  assert {"shakespeare/hamlet", "milton/paradise_lost"} <= set(names)
  assert len(names) == 43
  assert set(names) < set(artifacts.names())


@pytest.mark.parametrize("name", texts.names())
def test_every_text_is_clean(name):
  text = _load(name)
  lines = text.split("\n")
  assert len(text) > 70_000
  assert text.endswith("\n")
  assert not text.startswith("\n")
  assert all(line == line.rstrip() for line in lines)
  assert "\n\n\n\n" not in text
  for mark in ("\r", "\ufeff", "\ufffd", "Gutenberg", "http:", "###"):
    assert mark not in text


@pytest.mark.parametrize(
  ("name", "start", "end"),
  [
    ("shakespeare/hamlet", "HAMLET, PRINCE OF DENMARK\n", "is shot off.]\n"),
    ("milton/paradise_lost", "PARADISE LOST\nBOOK I.\n", "THE END.\n"),
    (
      "milton/paradise_regained",
      "PARADISE REGAINED\n",
      "house private returned.\n",
    ),
    (
      "britannica/shakespeare",
      "Shakespeare, William (1564--1616)",
      'speare."\n',
    ),
  ],
)
def test_starts_and_ends(name, start, end):
  text = _load(name)
  assert text.startswith(start)
  assert text.endswith(end)


def test_margin_numbers_are_gone():
  text = _load("milton/paradise_regained")
  assert "and brought'st him thence\nBy proof the undoubted" in text
  assert not any(line[-1:].isdigit() for line in text.split("\n"))


def test_article_marks_are_gone():
  text = _load("britannica/shakespeare")
  for mark in ("[^", "*", "p.772", "[Youth]", "[[ed", "\\", "START"):
    assert mark not in text
  # A sentence that runs over a page's end stays in one piece.
  assert "bear his name,\nand in many formal documents" in text


def test_unknown_text():
  with pytest.raises(artifacts.ArtifactError, match="'shakespeare/hamlet'"):
    texts.load("shakespeare/hamlot")


@given(
  size=st.integers(1, 9),
  count=st.integers(1, 9),
  slack=st.integers(0, 50),
  seed=st.none() | st.integers(0, 99),
)
def test_windows_are_pieces_that_do_not_overlap(size, count, slack, seed):
  total = size * count + slack
  rows = texts.windows(range(total), size=size, count=count, seed=seed)
  assert rows.dtype == np.int32
  flat = rows.reshape(-1)
  assert np.all(np.diff(flat) >= 1)
  assert flat[0] >= 0
  assert flat[-1] < total
  assert np.all(np.diff(rows, axis=1) == 1)


def test_even_windows_reach_both_ends():
  rows = texts.windows(range(1000), size=10, count=5)
  assert rows[:, 0].tolist() == [0, 248, 495, 742, 990]


def test_seeded_windows_differ_by_seed_alone():
  cut = lambda seed: texts.windows(range(10**4), size=10, count=5, seed=seed)
  assert np.array_equal(cut(1), cut(1))
  assert not np.array_equal(cut(1), cut(2))


def test_text_too_short():
  with pytest.raises(ValueError, match="got 9 tokens, expected at least 10"):
    texts.windows(range(9), size=5, count=2)


def test_empty_windows():
  with pytest.raises(ValueError, match="got size 0 and count 1"):
    texts.windows(range(9), size=0, count=1)
