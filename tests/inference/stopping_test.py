"""Ending a streamed answer: nothing of a stop text is ever shown."""

import itertools

import pytest

from research.inference import stopping


@pytest.fixture(scope="module")
def words(smollm2_words):
  return smollm2_words


def _run(words, ids, stops):
  until = stopping.StopText(words, stops)
  text = ""
  for token in ids:
    text += until.push(token)
    if until.stopped:
      break
  return text + until.flush(), until.stopped


def test_without_stops_everything_comes_through(words):
  text = "Ünïcode 🦊 and\n\nspaces"
  assert _run(words, words.encode(text), []) == (text, False)


@pytest.mark.parametrize("stop", ["fox", "fox jumps", "x", " qu", "over the"])
def test_text_ends_before_the_stop(words, stop):
  text = "the quick brown fox jumps over the lazy dog"
  expected = text[: text.index(stop)]
  assert _run(words, words.encode(text), [stop]) == (expected, True)


def test_the_earliest_of_several_stops_wins(words):
  ids = words.encode("one two three")
  assert _run(words, ids, ["three", "two"]) == ("one ", True)


def test_a_beginning_that_comes_to_nothing_is_shown(words):
  text = "STO STOP is near but STO"
  assert _run(words, words.encode(text), ["STOPPED"]) == (text, False)


def test_end_of_text_stops(words):
  ids = [*words.encode("done"), words.eos_id, *words.encode("more")]
  assert _run(words, ids, []) == ("done", True)


def test_any_split_of_a_stop_is_found(words):
  """Byte by byte tokens: the stop text is never in one token."""
  ids = list(itertools.chain.from_iterable(words.encode(c) for c in "abcSTOPd"))
  assert _run(words, ids, ["STOP"]) == ("abc", True)
