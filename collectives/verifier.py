"""Proves that a schedule is right, by symbols instead of numbers.

Every slot of every rank holds a set of ranks: those whose contribution has been
reduced into it. A message moves the set. Sets that meet must be disjoint, so
that nothing is counted twice, and the last ones must be what the collective
promises.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np

from collectives import schedule as sched
from collectives.algorithms import algorithm


class ScheduleError(ValueError):
  """A schedule does not do what it says."""


def verify(
  schedule: sched.Schedule, expected: algorithm.Cost | None = None
) -> algorithm.Cost:
  """Proves a schedule right, or says where it goes wrong.

  Args:
    schedule: what to check. One chunk is followed through; the others take the
      same steps in slots of their own.
    expected: what the closed formula says that it costs.

  Returns:
    What it costs, counted message by message.

  Raises:
    ScheduleError: a message that cannot be, a slot that is overwritten while it
      is read, a contribution that is lost or counted twice, ranks that wait for
      one another, or a cost that differs from the formula.

  Example:
    >>> from collectives import algorithms
    >>> ring = algorithms.ALGORITHMS["ring"]
    >>> verify(ring.schedule("all_reduce", sched.Grid(3)))
    Cost(steps=4, sent=Fraction(4, 3), local_steps=0, local_sent=Fraction(0, 1))
  """
  state = _State(schedule)
  for phase in schedule.phases:
    before = state.held.copy()
    for step in phase.steps:
      _check_form(schedule, phase, step)
      state.advance(sched.permutations(step))
    _check_native(schedule, phase, before, state.held)
  state.check_end()
  check_progress(programs(schedule))
  cost = count(schedule)
  if expected is not None and cost != expected:
    raise ScheduleError(f"cost: got {cost}, expected {expected} by the formula")
  return cost


class _State:
  """Which contributions every slot holds, `[rank, slot, word]` as bits."""

  def __init__(self, schedule: sched.Schedule):
    self._schedule = schedule
    size, slots = schedule.grid.size, schedule.slots
    self._ranks = np.arange(size)
    self._own = np.array([schedule.slot(rank) for rank in range(size)])
    bits = np.zeros((size, -(-size // 64)), np.uint64)
    bits[self._ranks, self._ranks // 64] = np.uint64(1) << (
      self._ranks % 64
    ).astype(np.uint64)
    if schedule.collective == "all_gather":
      self.held = np.zeros((size, slots, bits.shape[1]), np.uint64)
      self.held[self._ranks, self._own] = bits
    else:
      self.held = np.repeat(bits[:, None], slots, axis=1)
    self._everyone = np.bitwise_or.reduce(bits, axis=0)
    self._bits = bits

  def advance(self, moves: Sequence[sched.Permutation]) -> None:
    """Reads all messages of a step, then writes them."""
    read = [self.held[move.src[:, None], move.slots] for move in moves]
    _check_hazards(moves, self.held.shape[:2])
    for move, sets in zip(moves, read, strict=True):
      where = move.dst[:, None], move.slots
      self._check_holds(move, sets)
      if move.reduce:
        self._check_disjoint(move, sets & self.held[where])
        self.held[where] |= sets
      else:
        self.held[where] = sets

  def _check_holds(self, move, sets) -> None:
    if not sets.any(-1).all():
      i, k = np.argwhere(~sets.any(-1))[0]
      raise ScheduleError(
        f"rank {move.src[i]} sends slot {move.slots[i, k]} to rank "
        f"{move.dst[i]} but holds nothing there"
      )

  def _check_disjoint(self, move, common) -> None:
    if common.any():
      i, k, word = np.argwhere(common)[0]
      twice = int(common[i, k, word]).bit_length() - 1 + 64 * word
      raise ScheduleError(
        f"rank {move.dst[i]} slot {move.slots[i, k]}: contribution of rank "
        f"{twice} comes a second time, from rank {move.src[i]}"
      )

  def check_end(self) -> None:
    """Raises unless every rank ends with what the collective promises."""
    kind = self._schedule.collective
    if kind == "reduce_scatter":
      ends = self.held[self._ranks, self._own][:, None]
      slots = self._own[:, None]
      target = np.broadcast_to(self._everyone, ends.shape)
    else:
      ends = self.held
      slots = np.broadcast_to(np.arange(ends.shape[1]), ends.shape[:2])
      target = np.broadcast_to(self._everyone, ends.shape)
      if kind == "all_gather":
        blocks = np.empty_like(self._bits)
        blocks[self._own] = self._bits
        target = np.broadcast_to(blocks, ends.shape)
    wrong = np.argwhere((ends != target).any(-1))
    if len(wrong):
      rank, k = wrong[0]
      raise ScheduleError(
        f"rank {rank} slot {slots[rank, k]} ends with contributions of ranks "
        f"{_members(ends[rank, k])}, expected {_members(target[rank, k])}"
      )


def _members(words: Iterable[np.uint64]) -> list[int]:
  return [
    bit + 64 * number
    for number, word in enumerate(words)
    for bit in range(64)
    if int(word) >> bit & 1
  ]


def _check_form(
  schedule: sched.Schedule, phase: sched.Phase, step: sched.Step
) -> None:
  """Raises on a message that cannot be."""
  size, local = schedule.grid.size, schedule.grid.local
  for src, dst, slots, _ in step:
    if src == dst or not (0 <= src < size and 0 <= dst < size):
      raise ScheduleError(
        f"phase {phase.name}: got a message from rank {src} to {dst}, expected "
        f"two of {size} ranks"
      )
    if not slots or min(slots) < 0 or max(slots) >= schedule.slots:
      raise ScheduleError(
        f"phase {phase.name}: rank {src} sends slots {slots}, expected some of "
        f"{schedule.slots}"
      )
    inside = src // local == dst // local
    if inside != (phase.level == "local"):
      raise ScheduleError(
        f"phase {phase.name} is of level {phase.level}: got a message from "
        f"rank {src} to {dst} with {local} ranks a node"
      )


def _check_hazards(
  moves: Sequence[sched.Permutation], shape: tuple[int, int]
) -> None:
  """Raises if a slot is overwritten while it is read, or written twice."""
  sent = np.zeros(shape, bool)
  copied = np.zeros(shape, int)
  reduced = np.zeros(shape, bool)
  for move in moves:
    sent[move.src[:, None], move.slots] = True
    where = move.dst[:, None], move.slots
    if move.reduce:
      reduced[where] = True
    else:
      np.add.at(copied, where, 1)
  for rank, slot in np.argwhere((copied > 0) & sent):
    raise ScheduleError(
      f"rank {rank} slot {slot} is overwritten in the step that sends it"
    )
  for rank, slot in np.argwhere((copied > 1) | ((copied > 0) & reduced)):
    raise ScheduleError(
      f"rank {rank} slot {slot} is used for two messages of a step"
    )


def _check_native(
  schedule: sched.Schedule,
  phase: sched.Phase,
  before: np.ndarray,
  after: np.ndarray,
) -> None:
  """Raises unless the vendor's collective may stand for the steps."""
  if phase.native is None:
    return
  nodes, local = schedule.grid
  shape = (nodes, local, local, schedule.slots // local, before.shape[-1])
  i = np.arange(local)  # [node, rank, run of slots, slot, word]
  before, after = before.reshape(shape), after.reshape(shape)
  if phase.native == "reduce_scatter":
    got = after[:, i, i]
    expected = np.bitwise_or.reduce(before, axis=1)
  else:
    got = after
    expected = np.broadcast_to(before[:, i, i][:, None], shape)
  if not np.array_equal(got, expected):
    raise ScheduleError(
      f"phase {phase.name}: the steps do not do a {phase.native} over runs of "
      f"{schedule.slots // local} slots"
    )


def count(schedule: sched.Schedule) -> algorithm.Cost:
  """Counts steps, and the most slots that a rank sends, level by level."""
  steps = {"node": 0, "local": 0}
  sent = {level: [0] * schedule.grid.size for level in steps}
  for phase in schedule.phases:
    steps[phase.level] += len(phase.steps)
    for step in phase.steps:
      for src, _, slots, _ in step:
        sent[phase.level][src] += len(slots)
  share = {
    level: Fraction(max(slots), schedule.slots) for level, slots in sent.items()
  }
  return algorithm.Cost(
    steps["node"], share["node"], steps["local"], share["local"]
  )


class Op(NamedTuple):
  """What a rank does with one message.

  Attributes:
    kind: whether it sends or receives.
    peer: the other rank.
    tag: chunk, step, and which message of the step.
  """

  kind: Literal["send", "receive"]
  peer: int
  tag: tuple[int, int, int]


#: For every rank, what it does in turn; it waits until all of a turn is done.
Programs = list[list[list[Op]]]


def programs(schedule: sched.Schedule) -> Programs:
  """Writes down what each rank does, as it would with blocking messages."""
  ranks: Programs = [[] for _ in range(schedule.grid.size)]
  steps = schedule.steps
  for tick in schedule.timeline():
    turn: dict[int, list[Op]] = {}
    for chunk, index in tick:
      for number, (src, dst, _, _) in enumerate(steps[index]):
        tag = (chunk, index, number)
        turn.setdefault(src, []).append(Op("send", dst, tag))
        turn.setdefault(dst, []).append(Op("receive", src, tag))
    for rank, ops in turn.items():
      ranks[rank].append(ops)
  return ranks


def check_progress(ranks: Programs) -> None:
  """Raises if ranks that send without buffers would wait for ever.

  A send ends only when the other rank is at the turn that receives it
  (rendezvous). Ranks go on at their own pace.

  Raises:
    ScheduleError: naming the ranks that wait for one another in a circle, or
      for one that has ended.
  """
  turns = [iter(turn) for turn in ranks]
  waiting = [_post(next(turn, ())) for turn in turns]
  ready = [rank for rank, ops in enumerate(waiting) if ops]
  while ready:
    rank = ready.pop()
    ours = waiting[rank]
    for op in tuple(ours.values()):
      theirs = waiting[op.peer]
      other = theirs.get(op.tag)
      if other is not None and other.kind != op.kind:
        del theirs[op.tag], ours[op.tag]
        if not theirs:
          ready.append(op.peer)
    if not ours:
      waiting[rank] = _post(next(turns[rank], ()))
      if waiting[rank]:
        ready.append(rank)
  stuck = next((rank for rank, ops in enumerate(waiting) if ops), None)
  if stuck is not None:
    raise ScheduleError(f"deadlock: {_circle(stuck, waiting)}")


def _post(turn: Iterable[Op]) -> dict[tuple[int, int, int], Op]:
  return {op.tag: op for op in turn}


def _circle(rank: int, waiting: Sequence[dict[tuple, Op]]) -> str:
  """Follows who waits for whom until someone comes a second time, or ended."""
  path = [rank]
  while waiting[path[-1]]:
    path.append(next(iter(waiting[path[-1]].values())).peer)
    if path[-1] in path[:-1]:
      path = path[path.index(path[-1]) :]
      break
  words = " which waits for ".join(f"rank {rank}" for rank in path[1:])
  end = "" if waiting[path[-1]] else " which has ended"
  return f"rank {path[0]} waits for {words}{end}"
