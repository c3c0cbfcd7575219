"""What is read from rows: ratios, winners, crossings."""

import numpy as np
import pytest

from experiments import comparison
from tests.experiments.multinode_inference import made_up

K = made_up.K


def _network(rows) -> comparison.Network:
  cells = {(row.algorithm, row.size): row for row in rows}
  return comparison.Network("4x2,alpha=1ms,bw=1Gb", cells, seed=0)


def _power(name: str, size: int) -> float:
  """Two laws that cross at 181K, half-way from 128K to 256K."""
  tie = 128 * K * np.sqrt(2)
  return 0.01 * (size / tie) ** {"recursive_doubling": 1.0, "nvrar": 0.5}[name]


def test_a_crossing_is_interpolated():
  network = _network(made_up.timings(_power, ["recursive_doubling", "nvrar"]))
  (crossing,) = network.crossings()
  assert (crossing.before, crossing.after) == ("recursive_doubling", "nvrar")
  assert crossing.size == pytest.approx(128 * K * np.sqrt(2), rel=0.02)
  assert crossing.low <= crossing.size <= crossing.high
  assert 128 * K < crossing.low < crossing.high < 256 * K


def test_noise_widens_the_crossing():
  names = ["recursive_doubling", "nvrar"]
  widths = []
  for noise in (0.01, 0.3):
    (crossing,) = _network(
      made_up.timings(_power, names, noise=noise)
    ).crossings()
    widths.append(crossing.high / crossing.low)
  assert widths[1] > 1.05 * widths[0]


def test_a_tie_has_no_sure_winner():
  names = ["ring", "nvrar"]
  rows = made_up.timings(lambda *_: 0.01, names, noise=0.3, sizes=[8 * K])
  wins = _network(rows).wins(8 * K)
  assert sum(wins.values()) == pytest.approx(1)
  assert 0 < wins["ring"] < 1


def test_a_ratio_has_medians_and_the_fastest_calls():
  rows = made_up.timings(
    lambda name, _: {"ring": 0.03, "nvrar": 0.01}[name],
    ["ring", "nvrar"],
    sizes=[8 * K],
    noise=0.1,
  )
  ratio = _network(rows).ratio("ring", "nvrar", 8 * K)
  assert ratio.median == pytest.approx(3, rel=0.01)
  assert ratio.least == pytest.approx(3, rel=0.01)
  assert 2.5 < ratio.low < 3 < ratio.high < 3.5
