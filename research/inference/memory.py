"""Which pages a sequence holds: taken, shared through the cache, given back."""

from collections.abc import Sequence as ListOf

from research.inference import page_allocator, prefix_cache
from research.inference.request import Sequence


class Memory:
  """The pool's pages, and the cache of finished ones.

  Args:
    num_pages: pages of the pool.
    page_size: tokens a page holds.
    share: keep finished pages for prompts that begin alike.
    exact: drawn tokens leave the keys that a prompt's would leave; if not,
      only what stands before them is shared.

  Attributes:
    allocator: who holds which page.
    cache: finished pages by their tokens.
  """

  def __init__(
    self, num_pages: int, page_size: int, *, share: bool, exact: bool
  ):
    self.num_pages, self.page_size = num_pages, page_size
    self._share, self._exact = share, exact
    self.allocator = page_allocator.PageAllocator(num_pages)
    self.cache = prefix_cache.PrefixCache(self.allocator, page_size)

  @property
  def available(self) -> int:
    """Pages that can be had without taking them from a sequence."""
    return self.allocator.num_free + self.cache.num_idle

  def count(self, tokens: int) -> int:
    """Returns the pages that hold this many tokens."""
    return -(-tokens // self.page_size)

  def admit(self, sequence: Sequence, reserve: int) -> bool:
    """Gives a sequence all pages that its tokens need, or no more.

    Args:
      sequence: if it has no pages, what is cached of it counts as computed. Its
        last token is never taken from the cache: the next one comes from it.
      reserve: pages that must be left for others.

    Returns:
      Whether it has them now.
    """
    known = sequence.tokens
    if sequence.pages:
      more = self.count(len(known)) - len(sequence.pages)
      return self.available - reserve >= more and self.extend(
        sequence, len(known)
      )
    common = known[: self._common(sequence)]
    found = self.cache.match(common) if self._share else []
    need = self.count(len(known)) - len(found)
    if self.available - reserve < need or not self._free(need):
      self.allocator.release(found)
      return False
    sequence.pages = found + self.allocator.take(need)
    sequence.scheduled = sequence.confirmed = len(found) * self.page_size
    return True

  def extend(self, sequence: Sequence, end: int) -> bool:
    """Gives a sequence the pages for its first `end` tokens.

    Returns:
      Whether there were enough; if not, it has what it had.
    """
    need = self.count(end) - len(sequence.pages)
    if need > 0:
      if not self._free(need):
        return False
      sequence.pages += self.allocator.take(need)
    return True

  def trim(self, sequence: Sequence, end: int) -> None:
    """Takes the pages from a sequence that its first `end` tokens leave."""
    count = self.count(end)
    self.allocator.release(sequence.pages[count:])
    del sequence.pages[count:]

  def comes(self, sequence: Sequence, others: ListOf[Sequence]) -> bool:
    """Whether another one is computing a page that a sequence can share.

    Args:
      sequence: that waits.
      others: that run; what they have computed, the cache knows.
    """
    known = sequence.tokens[: self._common(sequence)]
    if not self._share or sequence.pages:
      return False
    for other in others:
      end = (other.confirmed // self.page_size + 1) * self.page_size
      if end <= min(len(known), self._common(other)):
        if known[:end] == other.tokens[:end]:
          return True
    return False

  def publish(self, sequence: Sequence) -> None:
    """Lets others use what a sequence is known to have computed.

    The page of its last token stays its own, for it may be written again.
    """
    if self._share:
      end = min(sequence.confirmed, self._common(sequence))
      end -= end % self.page_size
      count = end // self.page_size
      kept = self.cache.insert(sequence.tokens[:end], sequence.pages[:count])
      sequence.pages[:count] = kept

  def release(self, sequence: Sequence) -> None:
    """Takes all pages from a sequence."""
    self.allocator.release(sequence.pages)
    sequence.pages = []
    sequence.scheduled = sequence.confirmed = 0

  def _common(self, sequence: Sequence) -> int:
    """Leading tokens whose keys anybody's would equal, but for the last one."""
    known = len(sequence.tokens) - 1
    return known if self._exact else min(known, sequence.first_drawn)

  def _free(self, count: int) -> bool:
    missing = count - self.allocator.num_free
    return missing <= 0 or self.cache.evict(missing) >= missing
