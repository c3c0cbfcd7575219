"""Finished pages by the tokens that led to them, for prompts that begin alike.

A tree whose edges are whole pages of tokens: sequences share what they have in
common from position 0 on, since a page's keys depend on all tokens before it.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from research.inference import page_allocator


class _Node:
  """A page, under the page before it."""

  __slots__ = ("children", "key", "page", "parent", "used")

  def __init__(self, parent: "_Node | None", key: tuple[int, ...], page: int):
    self.parent, self.key, self.page = parent, key, page
    self.children: dict[tuple[int, ...], _Node] = {}
    self.used = 0


class PrefixCache:
  """A radix tree over pages; the leaf unused for longest is evicted first.

  The cache is one holder of each of its pages, and sequences that use them are
  others: a page with one holder is used by nobody. A sequence holds its pages
  from the root on, so nothing that is used can lie under something evictable.

  Args:
    pages: who holds which page.
    page_size: tokens a page holds.

  Attributes:
    queried: tokens looked up so far.
    hit: of those, tokens found.
  """

  def __init__(self, pages: page_allocator.PageAllocator, page_size: int):
    self._pages, self._size = pages, page_size
    self._root = _Node(None, (), -1)
    self._held: dict[int, _Node] = {}  # by page
    self._clock = itertools.count(1)
    # Leaves by last use; an entry is void once its node was used again.
    self._leaves: list[tuple[int, int]] = []
    self.queried = self.hit = 0

  @property
  def held(self) -> frozenset[int]:
    """The pages in the tree."""
    return frozenset(self._held)

  @property
  def num_idle(self) -> int:
    """Pages in the tree that no sequence uses: all of them can be evicted."""
    held = np.fromiter(self._held, np.int64, len(self._held))
    return int((self._pages.holders[held] == 1).sum())

  def match(self, tokens: Sequence[int]) -> list[int]:
    """Finds the longest beginning that is cached, in whole pages.

    Args:
      tokens: from position 0 on.

    Returns:
      Its pages; the caller holds them now.
    """
    found = []
    node = self._root
    for key in self._keys(tokens):
      child = node.children.get(key)
      if child is None:
        break
      found.append(child.page)
      self._touch(child)
      node = child
    self._pages.hold(found)
    self.queried += len(tokens)
    self.hit += len(found) * self._size
    return found

  def insert(self, tokens: Sequence[int], pages: Sequence[int]) -> list[int]:
    """Adds the whole pages of a sequence.

    Args:
      tokens: from position 0 on.
      pages: that hold them; the caller holds each.

    Returns:
      The pages to use from now on: where the tree had the same tokens already,
      the caller has changed its page for the tree's.
    """
    kept = list(pages)
    node = self._root
    for index, key in enumerate(self._keys(tokens)):
      child = node.children.get(key)
      if child is None:
        child = node.children[key] = _Node(node, key, kept[index])
        self._held[child.page] = child
        self._pages.hold([child.page])
      elif child.page != kept[index]:
        self._pages.hold([child.page])
        self._pages.release([kept[index]])
        kept[index] = child.page
      self._touch(child)
      node = child
    return kept

  def evict(self, count: int) -> int:
    """Gives up idle pages, leaves first, the least recently used first.

    Args:
      count: pages to free.

    Returns:
      Pages freed; fewer than asked for when the others are in use.
    """
    freed, busy = 0, []
    while freed < count and self._leaves:
      entry = heapq.heappop(self._leaves)
      node = self._held.get(entry[1])
      if node is None or node.used != entry[0] or node.children:
        continue
      if self._pages.holders[node.page] > 1:
        busy.append(entry)
        continue
      self._remove(node)
      freed += 1
    for entry in busy:
      heapq.heappush(self._leaves, entry)
    return freed

  def clear(self) -> None:
    """Forgets all pages; sequences that use some keep them."""
    self._pages.release(self._held)
    self._root.children.clear()
    self._held.clear()
    self._leaves.clear()

  def _keys(self, tokens: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for end in range(self._size, len(tokens) + 1, self._size):
      yield tuple(tokens[end - self._size : end])

  def _touch(self, node: _Node) -> None:
    node.used = next(self._clock)
    if not node.children:
      heapq.heappush(self._leaves, (node.used, node.page))
    if len(self._leaves) > 4 * len(self._held) + 64:  # mostly void entries
      leaves = [n for n in self._held.values() if not n.children]
      self._leaves = sorted((leaf.used, leaf.page) for leaf in leaves)

  def _remove(self, node: _Node) -> None:
    parent = node.parent
    assert parent is not None
    del parent.children[node.key], self._held[node.page]
    self._pages.release([node.page])
    if not parent.children and parent is not self._root:
      heapq.heappush(self._leaves, (parent.used, parent.page))
