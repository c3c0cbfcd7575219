"""The tree of pages against a list of whole prefixes, and who holds what."""

import numpy as np
import pytest

from research.inference import page_allocator, prefix_cache

_SIZE = 2


class _User:
  """Inserts and finds sequences as a scheduler does."""

  def __init__(self, num_pages: int = 16):
    self.pages = page_allocator.PageAllocator(num_pages)
    self.cache = prefix_cache.PrefixCache(self.pages, _SIZE)

  def store(self, tokens: str) -> list[int]:
    """Computes a sequence, publishes it, and leaves; returns its pages."""
    found = self.match(tokens)
    missing = len(tokens) // _SIZE - len(found)
    pages = self.insert(tokens, found + self.pages.take(missing))
    self.pages.release(pages)
    return pages

  def match(self, tokens: str) -> list[int]:
    return self.cache.match([ord(letter) for letter in tokens])

  def insert(self, tokens: str, pages: list[int]) -> list[int]:
    return self.cache.insert([ord(letter) for letter in tokens], pages)

  def find(self, tokens: str) -> str:
    pages = self.match(tokens)
    self.pages.release(pages)
    return tokens[: len(pages) * _SIZE]


def test_only_whole_pages_from_the_start_are_found():
  user = _User()
  user.store("abcdef")
  assert user.find("abcdef") == "abcdef"
  assert user.find("abcdxx") == "abcd"
  assert user.find("abcxxx") == "ab"
  assert user.find("cdef") == ""
  assert user.find("a") == ""
  assert user.cache.queried == 6 + 3 * 6 + 4 + 1
  assert user.cache.hit == 6 + 4 + 2


def test_common_pages_are_held_once():
  user = _User()
  first, second = user.store("aabbcc"), user.store("aabbdd")
  assert first[:2] == second[:2]
  assert first[2] != second[2]
  assert user.cache.held == {*first, *second}
  assert user.pages.num_free == 16 - 4


def test_two_that_computed_the_same_end_with_one_copy():
  user = _User()
  one, two = user.pages.take(2), user.pages.take(2)
  assert user.insert("aabb", one) == one
  assert user.insert("aabb", two) == one
  assert user.pages.holders[one].tolist() == [3, 3]
  assert user.pages.holders[two].tolist() == [0, 0]


def test_the_leaf_unused_for_longest_goes_first():
  user = _User()
  old, new = user.store("aabb"), user.store("aacc")
  user.find("aabb")
  assert user.cache.evict(1) == 1
  assert user.find("aacc") == "aa"
  assert user.find("aabb") == "aabb"
  assert user.pages.holders[new[1]] == 0
  assert user.cache.evict(9) == 2
  assert user.pages.num_free == 16
  assert user.pages.holders[old].sum() == 0


def test_what_is_in_use_is_never_evicted():
  user = _User()
  user.store("aabb")
  user.store("cc")
  held = user.match("aabb")
  assert user.cache.num_idle == 1
  assert user.cache.evict(5) == 1
  assert user.cache.held == set(held)
  user.pages.release(held)
  assert user.cache.num_idle == 2
  assert user.cache.evict(5) == 2


def test_a_cleared_cache_leaves_pages_to_their_users():
  user = _User()
  user.store("ccdd")
  user.store("aabb")
  held = user.match("aabb")
  user.cache.clear()
  assert user.find("aabb") == ""
  assert user.cache.evict(1) == 0
  assert set(range(16)) - set(user.pages.free) == set(held)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_list_of_prefixes(seed):
  """Evicts what a list sorted by last use would, and finds what it holds."""
  rng = np.random.default_rng(seed)
  user = _User(24)
  last_use: dict[str, int] = {}  # by whole prefix
  for now in range(300):
    tokens = "".join(rng.choice(list("ab"), 2 * rng.integers(1, 6)))
    known = max(
      (k for k in last_use if tokens.startswith(k)), key=len, default=""
    )
    missing = (len(tokens) - len(known)) // _SIZE
    while user.pages.num_free < missing:
      leaves = [
        k
        for k in last_use
        if not any(o != k and o.startswith(k) for o in last_use)
        and not tokens.startswith(k)
      ]
      del last_use[min(leaves, key=lambda k: last_use[k])]
      held = user.match(known)
      assert user.cache.evict(1) == 1
      user.pages.release(held)
    assert user.find(tokens) == known
    user.store(tokens)
    for end in range(_SIZE, len(tokens) + 1, _SIZE):
      last_use[tokens[:end]] = now
    assert len(user.cache.held) == len(last_use)
    assert len(user.cache._leaves) <= 4 * len(last_use) + 64


def test_pages_cannot_be_released_twice_or_taken_from_nothing():
  pages = page_allocator.PageAllocator(2)
  taken = pages.take(2)
  with pytest.raises(ValueError, match="got 1 pages to take, 0 are free"):
    pages.take(1)
  pages.release(taken)
  with pytest.raises(ValueError, match="is released, but nobody holds it"):
    pages.release(taken[:1])
