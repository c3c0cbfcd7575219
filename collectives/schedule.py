"""A collective as data: who sends which slots of the buffer to whom, and when.

One description serves the verifier, the numpy executor, the `shard_map`
lowering and cost models.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

Collective = Literal["all_reduce", "all_gather", "reduce_scatter"]


class Grid(NamedTuple):
  """Ranks in row-major order: rank `node * local + i` is the i-th of its node.

  Attributes:
    nodes: number of nodes; of ranks, where there is no hierarchy.
    local: ranks of a node.
  """

  nodes: int
  local: int = 1

  @property
  def size(self) -> int:
    """Number of ranks."""
    return self.nodes * self.local


class Transfer(NamedTuple):
  """One message.

  Attributes:
    src: rank that sends.
    dst: rank that receives.
    slots: numbers of the slots sent, which land in slots of the same number.
    action: `"copy"` overwrites them, `"reduce"` combines them with what is
      there (the message waits in a buffer of its own until the step's sends are
      done).
  """

  src: int
  dst: int
  slots: tuple[int, ...]
  action: Literal["copy", "reduce"]


#: Messages that travel at the same time: all are read before any is written.
Step = Sequence[Transfer]


class Columns(NamedTuple):
  """The messages of a step, one array for each thing that is said of them.

  Attributes:
    src: ranks that send.
    dst: ranks that receive.
    slots: how many slots each message has.
    reduced: whether they are reduced or copied.
  """

  src: np.ndarray
  dst: np.ndarray
  slots: np.ndarray
  reduced: np.ndarray


@dataclasses.dataclass(frozen=True)
class Shift(Sequence[Transfer]):
  """A step in which every rank does the same, seen from where it stands.

  Its messages are made if they are asked for: there are 17 million in the steps
  of a ring of 4,096 ranks.

  Attributes:
    size: number of ranks, and of slots.
    hop: rank r sends to rank r + hop (modulo `size`, as are the slots).
    offsets: rank r sends the slots r + offset.
    action: as in `Transfer`.

  Example:
    >>> list(Shift(2, 1, (0,), "copy"))[1]
    Transfer(src=1, dst=0, slots=(1,), action='copy')
  """

  size: int
  hop: int
  offsets: tuple[int, ...]
  action: Literal["copy", "reduce"]

  def __len__(self) -> int:
    return self.size

  def __iter__(self) -> Iterator[Transfer]:
    return iter(self._messages)

  def __getitem__(self, index):
    return self._messages[index]

  @functools.cached_property
  def _messages(self) -> Step:
    return tuple(
      map(
        Transfer,
        range(self.size),
        self._turned(self.hop),
        zip(*map(self._turned, self.offsets), strict=True),
        itertools.repeat(self.action),
      )
    )

  def _turned(self, by: int) -> list[int]:
    """r + `by` for every rank r."""
    first = by % self.size
    return [*range(first, self.size), *range(first)]

  def columns(self) -> Columns:
    """All messages at once."""
    src = np.arange(self.size)
    return Columns(
      src,
      (src + self.hop) % self.size,
      np.full(self.size, len(self.offsets)),
      np.full(self.size, self.action == "reduce"),
    )

  def permutation(self) -> "Permutation":
    """All messages at once, with their slots."""
    src, dst, _, _ = self.columns()
    slots = (src[:, None] + np.array(self.offsets)) % self.size
    return Permutation(src, dst, slots, self.action == "reduce")

  def reverse(self) -> "Shift":
    """The step backwards, reduced: who received sends."""
    offsets = tuple(offset - self.hop for offset in self.offsets)
    return Shift(self.size, -self.hop, offsets, "reduce")


def columns(step: Step) -> Columns:
  """The messages of a step as arrays, in its order."""
  if isinstance(step, Shift):
    return step.columns()
  src, dst, slots, actions = zip(*step, strict=True)
  return Columns(
    np.array(src),
    np.array(dst),
    np.fromiter(map(len, slots), int, len(slots)),
    np.fromiter((a == "reduce" for a in actions), bool, len(actions)),
  )


@dataclasses.dataclass(frozen=True)
class Phase:
  """Steps that belong together.

  Attributes:
    name: what they do, e.g. `"gather"`.
    level: `"local"` if all messages stay within a node, else `"node"`.
    steps: the steps.
    native: the vendor's collective over the local ranks that does the same:
      local rank i keeps, or gives, the i-th of `grid.local` equal runs of
      slots. A lowering may put it in place of the steps.
  """

  name: str
  level: Literal["node", "local"]
  steps: tuple[Step, ...]
  native: Literal["reduce_scatter", "all_gather"] | None = None


@dataclasses.dataclass(frozen=True)
class Schedule:
  """What every rank does in a collective.

  The buffer is cut into `chunks` equal chunks and each of them into `slots`
  equal slots. Chunk c takes the same steps as chunk 0, c steps later. An
  all-gather begins with block r in rank r's slot of block r; a reduce-scatter
  ends so.

  Attributes:
    name: name of the algorithm.
    collective: what it computes.
    grid: the ranks.
    slots: slots of a chunk.
    phases: its steps.
    shuffled: blocks lie in (local, node) order instead of rank order, so that a
      transposition on every rank comes first (reduce-scatter) or last
      (all-gather).
    chunks: pieces that follow one another through the steps.
  """

  name: str
  collective: Collective
  grid: Grid
  slots: int
  phases: tuple[Phase, ...]
  shuffled: bool = False
  chunks: int = 1

  @property
  def steps(self) -> tuple[Step, ...]:
    """The steps of one chunk."""
    return tuple(step for phase in self.phases for step in phase.steps)

  def slot(self, rank: int) -> int:
    """The slot in which rank's block lies, where slots belong to ranks."""
    if not self.shuffled:
      return rank
    node, local = divmod(rank, self.grid.local)
    return local * self.grid.nodes + node

  def timeline(self) -> Iterator[list[tuple[int, int]]]:
    """Yields, for each tick, the pairs (chunk, step) that run in it."""
    steps = sum(len(phase.steps) for phase in self.phases)
    for tick in range(steps + self.chunks - 1 if steps else 0):
      yield [
        (chunk, tick - chunk)
        for chunk in range(self.chunks)
        if 0 <= tick - chunk < steps
      ]

  def __str__(self) -> str:
    """One line a step: `rank>rank:slots`, with `+` where they are reduced."""
    lines = [
      f"{self.name} {self.collective}: {self.grid.nodes} x {self.grid.local} "
      f"ranks, {self.slots} slots, {self.chunks} chunks"
      + (", shuffled" if self.shuffled else "")
    ]
    for phase in self.phases:
      lines.append(f"{phase.name} ({phase.level})")
      lines += ["  " + " ".join(map(_spell, step)) for step in phase.steps]
    return "\n".join(lines)


def _spell(transfer: Transfer) -> str:
  sign = "+" if transfer.action == "reduce" else ""
  slots = ",".join(map(str, transfer.slots))
  return f"{transfer.src}>{transfer.dst}:{sign}{slots}"


class Permutation(NamedTuple):
  """Messages of a step, at most one to and one from each rank, of equal size.

  Attributes:
    src: `[n]` ranks that send.
    dst: `[n]` ranks that receive.
    slots: `[n, k]` slots of each message.
    reduce: whether they are reduced or copied.
  """

  src: np.ndarray
  dst: np.ndarray
  slots: np.ndarray
  reduce: bool


def permutations(step: Step) -> list[Permutation]:
  """Splits a step into permutations, in the order of its transfers.

  Example:
    >>> step = (Transfer(1, 0, (0,), "reduce"), Transfer(2, 0, (0,), "reduce"))
    >>> [(perm.src.tolist(), perm.dst.tolist()) for perm in permutations(step)]
    [([1], [0]), ([2], [0])]
  """
  if isinstance(step, Shift):
    return [step.permutation()]
  groups: list[tuple[int, str, set[int], set[int], list[Transfer]]] = []
  for transfer in step:
    src, dst, slots, action = transfer
    for size, kind, sources, targets, members in groups:
      if (
        size == len(slots)
        and kind == action
        and src not in sources
        and dst not in targets
      ):
        sources.add(src)
        targets.add(dst)
        members.append(transfer)
        break
    else:
      groups.append((len(slots), action, {src}, {dst}, [transfer]))
  return [
    Permutation(
      np.array([member.src for member in members]),
      np.array([member.dst for member in members]),
      np.array([member.slots for member in members]),
      kind == "reduce",
    )
    for _, kind, _, _, members in groups
  ]


def reverse(steps: Sequence[Step]) -> tuple[Step, ...]:
  """Turns the steps of an all-gather into those of a reduce-scatter.

  The copies of a block spread over a tree; backwards, the same tree reduces it.

  Example:
    >>> reverse([(Transfer(0, 1, (0,), "copy"),)])
    ((Transfer(src=1, dst=0, slots=(0,), action='reduce'),),)
  """
  return tuple(
    step.reverse()
    if isinstance(step, Shift)
    else tuple(
      Transfer(dst, src, slots, "reduce") for src, dst, slots, _ in step
    )
    for step in reversed(steps)
  )


def place(
  steps: Sequence[Step],
  rank: Callable[[int], int],
  slots: Callable[[int], Iterable[int]],
) -> tuple[Step, ...]:
  """Renames ranks, and puts a run of slots where one was."""
  return tuple(
    tuple(
      Transfer(
        rank(src), rank(dst), tuple(s for one in ones for s in slots(one)), do
      )
      for src, dst, ones, do in step
    )
    for step in steps
  )


def side_by_side(parts: Iterable[Sequence[Step]]) -> tuple[Step, ...]:
  """Runs equally long lists of steps at the same time."""
  return tuple(
    tuple(transfer for step in steps for transfer in step)
    for steps in zip(*parts, strict=True)
  )
