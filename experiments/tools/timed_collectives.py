"""What `experiments.tools.bench_collectives` times, and how."""

import dataclasses
import functools
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import collectives
from research import mesh
from research.cluster import network, probe, store

#: Calls of an algorithm between two looks at how many cores are free.
BLOCK = 2

_LOOK = 0.2  # seconds
_SETTLE = 0.02  # until the others sleep
_PATIENCE = 600.0  # seconds between the fastest and the slowest process
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Row:
  """One size and algorithm.

  Attributes:
    collective: what was timed.
    algorithm: by which algorithm.
    size: bytes of the larger of a rank's two buffers.
    count: elements of the smaller one.
    dtype: of the elements.
    op: what reduces; "none" for an all-gather.
    median_us: over iterations, of the slowest process, in microseconds.
    min_us: of the fastest iteration.
    p95_us: 95th percentile.
    algbw: GB/s, from the median; None within one process.
    busbw: algbw times the collective's factor; None within one process.
    wrong: elements that differ from what they should be, over all ranks.
    transport: what carried the messages.
    times_us: of every iteration, of the slowest process.
    free_cores: that nobody else used, before or after each `BLOCK` of the
      iterations, whichever is fewer; empty where nobody looked.
  """

  collective: str
  algorithm: str
  size: int
  count: int
  dtype: str
  op: str
  median_us: float
  min_us: float
  p95_us: float
  algbw: float | None
  busbw: float | None
  wrong: int
  transport: str
  times_us: tuple[float, ...]
  free_cores: tuple[float, ...] = ()

  def to_json(self) -> dict[str, Any]:
    """Returns a dict that `json.dumps` takes."""
    return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Bench:
  """A collective by several algorithms; see the flags of the command.

  Attributes:
    collective: what to time.
    algorithms: by which algorithms.
    shape: mesh axes with their sizes, outermost first.
    dtype: of the elements.
    op: of an all-reduce.
    warmup: calls that do not count.
    iters: calls that do.
  """

  collective: str
  algorithms: tuple[str, ...]
  shape: Mapping[str, int]
  dtype: str
  op: str
  warmup: int
  iters: int

  @property
  def ranks(self) -> int:
    """Devices that take part."""
    return math.prod(self.shape.values())

  @property
  def processes(self) -> int:
    """Processes that take part."""
    return jax.process_count()

  @property
  def transport(self) -> str:
    """What carries the messages."""
    if self.processes == 1:
      return (
        "devices of one process, no transport between them: these times are no"
        " speeds of a collective"
      )
    kind = f"{self.processes} processes, {jax.default_backend()} devices"
    links = network.current()
    if links is None:
      return f"{kind}, over this machine's own network"
    return f"{kind}, over emulated links {links}"

  def rows(self, sizes: Sequence[int]) -> Iterator[Row]:
    """Times all algorithms at each size, and checks what they give.

    Args:
      sizes: bytes, of which the whole elements of equal shares are taken.
    """
    if jax.process_count() > 1:
      collectives.check_agreement("bench_collectives", (f"{self} {sizes}",))
      self._warm(max(sizes))
    for size in sizes:
      yield from self._size(size)

  def _size(self, size: int) -> Iterator[Row]:
    count = self._count(size)
    data = self._data(count)
    x = self._place(data)
    calls = {name: self._jit(name) for name in self.algorithms}
    expected = self._expected(data)
    wrong = {name: self._wrong(calls[name](x), expected) for name in calls}
    own, free = self._times(calls, x)
    # Every process says what it saw; no collective disturbs the next ones.
    said = exchange({name: (own[name], wrong[name]) for name in calls})
    for name in calls:
      times = np.max([process[name][0] for process in said], axis=0)
      total = sum(process[name][1] for process in said)
      row = self._row(name, count, times, total)
      yield dataclasses.replace(row, free_cores=free)

  def _row(self, name: str, count: int, times: np.ndarray, wrong: int) -> Row:
    shares = 1 if self.collective == "all_reduce" else self.ranks
    size = count * shares * jnp.dtype(self.dtype).itemsize
    low, median, high = np.percentile(times, [0, 50, 95]).tolist()
    algbw = None if self.processes == 1 else size / median / 1e9
    factor = busbw_factor(self.collective, self.ranks)
    return Row(
      collective=self.collective,
      algorithm=name,
      size=size,
      count=count,
      dtype=self.dtype,
      op="none" if self.collective == "all_gather" else self._op,
      median_us=median * 1e6,
      min_us=low * 1e6,
      p95_us=high * 1e6,
      algbw=algbw,
      busbw=None if algbw is None else algbw * factor,
      wrong=wrong,
      transport=self.transport,
      times_us=tuple((1e6 * times).tolist()),
    )

  @property
  def _op(self) -> str:
    return self.op if self.collective == "all_reduce" else "sum"

  @functools.cached_property
  def _mesh(self) -> jax.sharding.Mesh:
    return mesh.make_mesh(self.shape)

  @property
  def _axes(self) -> tuple[str, ...]:
    return tuple(self.shape)

  def _count(self, size: int) -> int:
    shares = 1 if self.collective == "all_reduce" else self.ranks
    return max(1, size // (shares * jnp.dtype(self.dtype).itemsize))

  def _data(self, count: int) -> np.ndarray:
    """`[ranks, elements]` inputs whose sums are exact in the dtype."""
    dtype = jnp.dtype(self.dtype)
    whole = jnp.issubdtype(dtype, jnp.integer)
    exact = jnp.iinfo(dtype).max if whole else 2 ** (jnp.finfo(dtype).nmant + 1)
    top = min(exact // self.ranks, 1000)
    if top < 2:
      raise ValueError(
        f"got {self.ranks} ranks of {dtype}, expected a dtype that holds sums"
        " of as many exactly; take float32"
      )
    length = count * (self.ranks if self._scatters else 1)
    rng = np.random.default_rng(0)
    values = rng.integers(1, top + 1, (self.ranks, length), np.int32)
    return values.astype(dtype)

  @property
  def _scatters(self) -> bool:
    return self.collective == "reduce_scatter"

  def _expected(self, data: np.ndarray) -> np.ndarray:
    """`[ranks, elements]` results, by numpy."""
    if self.collective == "all_gather":
      return np.broadcast_to(data.reshape(-1), (self.ranks, data.size))
    wide = data.astype(np.float64)
    if self._op == "max":
      total = wide.max(0)
    else:
      total = wide.sum(0) / (self.ranks if self._op == "mean" else 1)
    if self._scatters:
      return total.reshape(self.ranks, -1)
    return np.broadcast_to(total, data.shape)

  def _place(self, data: np.ndarray) -> jax.Array:
    flat = data.reshape(-1)
    return jax.make_array_from_callback(
      flat.shape,
      NamedSharding(self._mesh, PartitionSpec(self._axes)),
      lambda index: flat[index],
    )

  def _jit(self, algorithm: str) -> Callable[[jax.Array], jax.Array]:
    run = {
      "all_reduce": functools.partial(collectives.all_reduce, op=self.op),
      "all_gather": functools.partial(collectives.all_gather, tiled=True),
      "reduce_scatter": functools.partial(
        collectives.reduce_scatter, tiled=True
      ),
    }[self.collective]
    return self._mapped(lambda x: run(x, self._axes, algorithm=algorithm))

  def _mapped(self, body: Callable) -> Callable[[jax.Array], jax.Array]:
    ranks = PartitionSpec(self._axes)
    return jax.jit(
      jax.shard_map(body, mesh=self._mesh, in_specs=ranks, out_specs=ranks)
    )

  def _wrong(self, result: jax.Array, expected: np.ndarray) -> int:
    """Counts elements of this process that are not what they should be."""
    length = expected.shape[1]
    wrong = 0
    for shard in result.addressable_shards:
      rank = (shard.index[0].start or 0) // length
      right = expected[rank].astype(result.dtype)
      wrong += int((np.asarray(shard.data) != right).sum())
    return wrong

  def _times(
    self, calls: Mapping[str, Callable[[Any], Any]], x: Any
  ) -> tuple[dict[str, list[float]], tuple[float, ...]]:
    """Seconds of each call in this process, the algorithms in turns.

    Returns:
      The seconds by algorithm, and `Row.free_cores`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    free = []
    for i in range(-self.warmup, self.iters):
      if i >= 0 and i % BLOCK == 0:
        free.append(self._free_cores())
      start = i % len(names)
      for name in names[start:] + names[:start]:
        self._meet()
        began = time.perf_counter()
        jax.block_until_ready(calls[name](x))
        if i >= 0:
          seconds[name].append(time.perf_counter() - began)
    if self.processes == 1:
      return seconds, ()
    free.append(self._free_cores())
    return seconds, tuple(np.minimum(free[:-1], free[1:]).tolist())

  def _free_cores(self) -> float:
    """What process 0 finds while the others sleep."""
    if self.processes == 1:
      return math.nan  # nobody's time is judged
    self._meet()
    time.sleep(_SETTLE)
    own = None
    if jax.process_index() == 0:
      own = probe.free_cores(_LOOK)
    else:
      time.sleep(_LOOK + _SETTLE)
    return exchange({"free": own})[0]["free"]

  @functools.cached_property
  def _barrier(self) -> Callable[[jax.Array], jax.Array]:
    return self._mapped(
      lambda x: collectives.all_reduce(
        x, self._axes, algorithm="recursive_doubling"
      )
    )

  @functools.cached_property
  def _ones(self) -> jax.Array:
    return self._place(np.ones((self.ranks, 1), np.float32))

  def _meet(self) -> None:
    """Lets all processes start together, so that no wait is in a time."""
    if jax.process_count() > 1:
      jax.block_until_ready(self._barrier(self._ones))

  def _warm(self, size: int) -> None:
    """Sends the largest reduce-scatter over all axes and over each.

    gloo grows a socket's send buffer to the largest such message and no
    further; a later one that is larger stalls for 40 ms a step. Its first
    message is half of the buffer, hence twice the size.
    """
    length = max(2 * size // 4, self.ranks)
    x = self._place(np.ones((self.ranks, length), np.float32))
    # In the same order on all processes, which a set would not be.
    for axes in dict.fromkeys((self._axes, *((a,) for a in self._axes))):
      group = math.prod(self.shape[axis] for axis in axes)

      def scatter(x, axes=axes, group=group):
        part = x[: x.size // group * group]
        return jax.lax.psum_scatter(part, axes, tiled=True)

      jax.block_until_ready(self._mapped(scatter)(x))


def sizes(smallest: int, largest: int, factor: int) -> list[int]:
  """Returns the sizes from `smallest` to at most `largest`.

  Raises:
    ValueError: there is none.

  Example:
    >>> sizes(1024, 20_000, 4)
    [1024, 4096, 16384]
  """
  if not 0 < smallest <= largest:
    raise ValueError(
      f"got sizes from {smallest} to {largest} bytes, expected min_bytes from 1"
      " to max_bytes"
    )
  count = int(math.log(largest / smallest, factor) + 1e-9) + 1
  return [smallest * factor**i for i in range(count)]


def busbw_factor(collective: str, ranks: int) -> float:
  """Returns the factor from algbw to busbw, that of nccl-tests.

  Example:
    >>> busbw_factor("all_reduce", 8), busbw_factor("all_gather", 8)
    (1.75, 0.875)
  """
  return (1 + (collective == "all_reduce")) * (ranks - 1) / ranks


def parse_bytes(text: str) -> int:
  """Reads a size, in units of 1024.

  Raises:
    ValueError: it is none.

  Example:
    >>> parse_bytes("4K"), parse_bytes("100")
    (4096, 100)
  """
  match = re.fullmatch(r"(\d+)([KMG]?)", text)
  if not match:
    raise ValueError(f"got the size {text!r}, expected one such as 100, 1K, 4M")
  return int(match[1]) * _UNITS[match[2]]


def parse_mesh(text: str) -> dict[str, int]:
  """Reads axes with their sizes.

  Raises:
    ValueError: they are none.

  Example:
    >>> parse_mesh("node=4,local=2")
    {'node': 4, 'local': 2}
  """
  pairs = [re.fullmatch(r"(\w+)=(\d+)", part) for part in text.split(",")]
  if not all(pairs):
    raise ValueError(
      f"got the mesh {text!r}, expected one such as node=4,local=2"
    )
  return {pair[1]: int(pair[2]) for pair in pairs if pair}


_exchanges = iter(range(1_000_000))


def exchange(own: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns what every process says, in their order.

  Args:
    own: what this one says, as JSON holds it.

  Raises:
    LostPeerError: one of them said nothing for ten minutes.
  """
  if jax.process_count() == 1:
    return [dict(own)]
  said, missing = store.exchange(
    f"bench_collectives/{next(_exchanges)}", json.dumps(own), timeout=_PATIENCE
  )
  if missing:
    raise collectives.LostPeerError(
      f"bench_collectives: got no times from processes {missing} in"
      f" {_PATIENCE:g} s, expected all {jax.process_count()}"
    )
  return [json.loads(said[i]) for i in sorted(said)]
