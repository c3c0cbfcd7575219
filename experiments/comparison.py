"""Algorithms against one another on the same links, with their spread."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float

from experiments import emulated_links
from research.telemetry import bench

#: A prefix of a peer's rows, such as `openmpi:ring`.
Peer = str
Cells = Mapping[tuple[str, int], emulated_links.Pooled]

_DRAWS = 1000
_INTERVAL = (2.5, 97.5)  # percent


@dataclasses.dataclass(frozen=True)
class Ratio:
  """How many times as long one thing takes as another, at one size.

  Attributes:
    size: bytes.
    median: ratio of medians.
    low: lower end of its 95 % bootstrap interval over blocks of calls.
    high: upper end.
    least: ratio of the fastest calls.
    slow: what stands above the line.
    contended: too few blocks of either were undisturbed.
  """

  size: int
  median: float
  low: float
  high: float
  least: float
  slow: str
  contended: bool


@dataclasses.dataclass(frozen=True)
class Crossing:
  """Where one winner makes way for another.

  Attributes:
    before: the fastest below.
    after: the fastest above.
    size: bytes at which they tie, by interpolation of log time in log size.
    low: lower end of its 95 % bootstrap interval, within the sizes measured.
    high: upper end.
  """

  before: str
  after: str
  size: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Network:
  """What was timed on one network.

  Attributes:
    name: the network.
    cells: rows by algorithm and size.
    seed: of the bootstrap.
  """

  name: str
  cells: Cells
  seed: int

  @property
  def sizes(self) -> list[int]:
    """Sizes, ascending."""
    return sorted({size for _, size in self.cells})

  @property
  def algorithms(self) -> list[str]:
    """Our algorithms and `xla`, in the order of the settings."""
    return [name for name in self._names if ":" not in name]

  @property
  def _names(self) -> list[str]:
    return list(dict.fromkeys(name for name, _ in self.cells))

  @property
  def peers(self) -> list[Peer]:
    """Peers that answered."""
    return list(dict.fromkeys(n.split(":")[0] for n in self._names if ":" in n))

  @property
  def contended(self) -> bool:
    """Whether any row of ours had too few undisturbed blocks."""
    return any(
      row.contended for (name, _), row in self.cells.items() if ":" not in name
    )

  def ours(self, *without: str) -> list[str]:
    """Returns our algorithms, but for some."""
    return [name for name in self.algorithms if name not in without]

  def of_peer(self, peer: Peer) -> list[str]:
    """Returns a peer's algorithms."""
    return [name for name in self._names if name.startswith(f"{peer}:")]

  def best(self, names: Iterable[str], size: int) -> str:
    """Returns the one of lowest median."""
    return min(names, key=lambda name: self.cells[name, size].median_us)

  def ratio(self, slow: str, fast: str, size: int) -> Ratio:
    """Compares two algorithms at a size."""
    a, b = self.cells[slow, size], self.cells[fast, size]
    drawn = self.medians(slow, size) / self.medians(fast, size)
    low, high = np.percentile(drawn, _INTERVAL).tolist()
    return Ratio(
      size=size,
      median=a.median_us / b.median_us,
      low=low,
      high=high,
      least=a.min_us / b.min_us,
      slow=slow,
      contended=a.contended or b.contended,
    )

  def medians(self, name: str, size: int) -> Float[np.ndarray, " draws"]:
    """Draws blocks of calls again and again; the same for all algorithms."""
    blocks = self.cells[name, size].blocks
    rng = np.random.default_rng([self.seed, size, len(blocks)])
    picks = rng.integers(0, len(blocks), (_DRAWS, len(blocks)))
    return np.median(blocks[picks].reshape(_DRAWS, -1), axis=1)

  def wins(self, size: int) -> dict[str, float]:
    """Returns the share of draws in which each of ours is the fastest."""
    drawn = np.stack([self.medians(name, size) for name in self.algorithms])
    counts = np.bincount(drawn.argmin(0), minlength=len(drawn))
    return dict(zip(self.algorithms, (counts / _DRAWS).tolist(), strict=True))

  def crossings(self) -> list[Crossing]:
    """Returns where the fastest of ours changes, smallest size first."""
    best = [self.best(self.algorithms, size) for size in self.sizes]
    changes = [i for i in range(1, len(best)) if best[i] != best[i - 1]]
    return [self._crossing(best[i - 1], best[i], i) for i in changes]

  def _crossing(self, before: str, after: str, index: int) -> Crossing:
    gap = [
      np.log(self.cells[after, s].median_us / self.cells[before, s].median_us)
      for s in self.sizes
    ]
    drawn = np.log(
      [self.medians(after, s) / self.medians(before, s) for s in self.sizes]
    )
    log_sizes = np.log2(self.sizes)
    where = [_tie(log_sizes, draw, index) for draw in drawn.T]
    low, high = np.exp2(np.percentile(where, _INTERVAL)).tolist()
    size = float(np.exp2(_tie(log_sizes, np.array(gap), index)))
    return Crossing(before, after, size, min(low, size), max(high, size))


def bench_row(network: Network, name: str, size: int) -> bench.BenchResult:
  """Returns a cell for the ledger.

  Args:
    network: what was timed.
    name: of the algorithm.
    size: bytes.
  """
  row = network.cells[name, size]
  low, high = np.percentile(row.blocks, [25, 75]).tolist()
  kept = 0 if row.contended else len(row.blocks)
  return bench.BenchResult(
    name=f"{kilobytes(size)} {name}",
    unit="s",
    median=row.median_us / 1e6,
    p25=low,
    p75=high,
    rounds_kept=kept,
    rounds_dropped=row.dropped,
    verdict="contended" if row.contended else "judged",
    meta={"min_s": row.min_us / 1e6, "wrong": row.wrong}
    | {"transport": row.transport},
  )


def kilobytes(size: float | int) -> str:
  """Writes a size.

  Example:
    >>> kilobytes(524288), kilobytes(2 << 20), kilobytes(1.5 * 2**20)
    ('512K', '2M', '1536K')
  """
  whole = round(size / 1024)
  return f"{whole}K" if whole % 1024 else f"{whole // 1024}M"


def _tie(
  log_sizes: Float[np.ndarray, " sizes"],
  gap: Float[np.ndarray, " sizes"],
  index: int,
) -> float:
  """Where `gap` falls through zero, nearest to the interval before `index`."""
  falls = [i for i in range(1, len(gap)) if gap[i - 1] >= 0 > gap[i]]
  if not falls:
    return float(log_sizes[0] if (gap < 0).all() else log_sizes[-1])
  i = min(falls, key=lambda fall: abs(fall - index))
  share = gap[i - 1] / (gap[i - 1] - gap[i])
  return float(log_sizes[i - 1] + share * (log_sizes[i] - log_sizes[i - 1]))
