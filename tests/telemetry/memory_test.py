import numpy as np
import pytest

from research.telemetry import memory


def test_resident_bytes_follow_an_allocation():
  base = memory.rss_bytes()
  block = np.ones(96 << 20, np.uint8)  # ones: the pages are touched
  grown = memory.rss_bytes() - base
  assert 0.8 * block.nbytes < grown < 1.5 * block.nbytes


def test_peak_outlives_the_allocation_until_it_is_reset():
  memory.reset_peak()
  block = np.ones(96 << 20, np.uint8)
  size = block.nbytes
  del block
  assert memory.peak_rss_bytes() > memory.rss_bytes() + 0.5 * size
  if not memory.reset_peak():
    pytest.skip("clear_refs is not permitted here")
  assert memory.peak_rss_bytes() < memory.rss_bytes() + 0.5 * size
