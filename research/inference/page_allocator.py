"""Who holds which page of the pool."""

from collections.abc import Iterable

import numpy as np


class PageAllocator:
  """Counts the holders of every page; a page without one is free.

  Args:
    num_pages: pages of the pool.

  Attributes:
    holders: of each page: sequences, and the prefix cache.

  Example:
    >>> pages = PageAllocator(4)
    >>> pages.take(2)
    [0, 1]
    >>> pages.hold([1]); pages.release([0, 1])
    >>> pages.num_free
    3
  """

  def __init__(self, num_pages: int):
    self.holders = np.zeros(num_pages, np.int32)
    self._free = list(reversed(range(num_pages)))

  @property
  def num_free(self) -> int:
    """Pages that nobody holds."""
    return len(self._free)

  @property
  def free(self) -> tuple[int, ...]:
    """The pages that nobody holds, the next to be taken last."""
    return tuple(self._free)

  def take(self, count: int) -> list[int]:
    """Takes free pages.

    Args:
      count: how many; at most `num_free`.

    Returns:
      Their numbers; each has one holder, the caller.
    """
    if count > len(self._free):
      raise ValueError(f"got {count} pages to take, {len(self._free)} are free")
    pages = [self._free.pop() for _ in range(count)]
    self.hold(pages)
    return pages

  def hold(self, pages: Iterable[int]) -> None:
    """Adds a holder to each page."""
    for page in pages:
      self.holders[page] += 1

  def release(self, pages: Iterable[int]) -> None:
    """Removes a holder from each page; the last one's leaving frees it."""
    for page in pages:
      if self.holders[page] < 1:
        raise ValueError(f"page {page} is released, but nobody holds it")
      self.holders[page] -= 1
      if not self.holders[page]:
        self._free.append(page)
