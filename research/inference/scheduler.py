"""What the next step computes: a deterministic policy on the host.

First come, first served. A step takes the next token of every sequence that
decodes and, beside them, pieces of prompts up to a budget. When pages run out,
the youngest gives up its own and is computed again later; the oldest always
advances, so there is no deadlock.
"""

import bisect
import dataclasses
from collections.abc import Callable, Iterator
from collections.abc import Sequence as ListOf
from typing import NamedTuple

import numpy as np

from research.inference import memory as memory_lib
from research.inference.request import (
  Completion,
  Finish,
  RequestError,
  Sequence,
  State,
)


class Work(NamedTuple):
  """What a step computes of one sequence.

  Attributes:
    sequence: which.
    start: its first position that is computed.
    end: the position after its last one.
    draws: whether a token is drawn at the end.
    epoch: the sequence's; once it has moved on, the result is void.
    drafts: guesses of the tokens at the end and after it, verified at once.
    masks: of the tokens that may be drawn, and drawn after each draft; `None`
      where any may.
  """

  sequence: Sequence
  start: int
  end: int
  draws: bool
  epoch: int
  drafts: tuple[int, ...] = ()
  masks: np.ndarray | None = None

  @property
  def void(self) -> bool:
    """Whether the sequence was rolled back or ended since."""
    return self.epoch != self.sequence.epoch

  def cut(self, most: int) -> "Work":
    """Returns it with so many drafts at most."""
    return self._replace(
      drafts=self.drafts[:most],
      masks=None if self.masks is None else self.masks[: most + 1],
    )

  def num_right(self, drawn: ListOf[int]) -> int:
    """Counts the drafts in front that equal what was drawn in their places."""
    pairs = zip(self.drafts, drawn, strict=False)
    wrong = (i for i, (guess, token) in enumerate(pairs) if guess != token)
    return next(wrong, len(self.drafts))


@dataclasses.dataclass
class Plan:
  """One step.

  Attributes:
    decodes: of one position each and their drafts, which draw.
    pieces: longer ones.
    blocks: of tokens that the pieces take.
  """

  decodes: list[Work] = dataclasses.field(default_factory=list)
  pieces: list[Work] = dataclasses.field(default_factory=list)
  blocks: int = 0

  def __iter__(self) -> Iterator[Work]:
    """Goes over all work, in the order of the device's answers."""
    yield from self.decodes
    yield from self.pieces

  def __bool__(self) -> bool:
    """Whether there is anything to compute."""
    return bool(self.decodes or self.pieces)


class Ended(NamedTuple):
  """A sequence that ended, and the answer to its request."""

  sequence: Sequence
  completion: Completion


class Scheduler:
  """Decides who runs, from the state of all sequences.

  Args:
    memory: the pages.
    slots: sequences that run at once, at most.
    blocks: of pieces in a step, at most.
    block: tokens in a block.
    context: tokens a sequence may hold.
    clock: gives seconds.
    exact: whether drawn tokens leave the keys that a prompt's would leave. If
      not, they are always computed one after another, also those that are known
      when a sequence is computed again: after a draw that is void, or in a slot
      of which it cannot know who had it.

  Attributes:
    waiting: sequences in line, the oldest first.
    running: sequences in the steps (running or injected), the oldest first.
    parked: sequences at rest.
    preemptions: so far.
  """

  def __init__(
    self,
    memory: memory_lib.Memory,
    *,
    slots: int,
    blocks: int,
    block: int,
    context: int,
    clock: Callable[[], float],
    exact: bool,
  ):
    self.memory = memory
    self.waiting: list[Sequence] = []
    self.running: list[Sequence] = []
    self.parked: list[Sequence] = []
    self.preemptions = 0
    self._free_slots = list(reversed(range(slots)))
    self._blocks, self._block = blocks, block
    self.limit = min(context, memory.num_pages * memory.page_size)
    self._clock, self._exact = clock, exact

  @property
  def decoding(self) -> list[Sequence]:
    """Sequences whose next step is one position, after a known token."""
    return [
      sequence
      for sequence in self.running
      if not sequence.in_flight
      and sequence.scheduled == len(sequence.tokens) - 1
    ]

  def check(self, tokens: int, more: int) -> None:
    """Raises RequestError if so many tokens can never be held."""
    if tokens + more > self.limit:
      raise RequestError(
        f"request over the limit: got {tokens} tokens and {more} more to come, "
        f"expected at most {self.limit} together (the model's context, or all "
        "pages of the pool); shorten the prompt or lower max_tokens"
      )

  def add(self, sequence: Sequence) -> None:
    """Takes a new sequence."""
    self.check(len(sequence.tokens), sequence.request.max_tokens)
    self.waiting.append(sequence)

  def schedule(self) -> Plan:
    """Decides on a step and takes what it needs."""
    plan = Plan()
    for sequence in list(self.running):
      if sequence.slot is not None:  # not preempted by one before it
        self._advance(sequence, plan)
    while self.waiting and self._free_slots and plan.blocks < self._blocks:
      first = self.waiting[0]
      if self.memory.comes(first, self.running) or not self._admit(first):
        break
      self._advance(self._start(self.waiting.pop(0)), plan)
    return plan

  def collect(
    self, work: Work, tokens: ListOf[int], logprobs: ListOf[float]
  ) -> Ended | None:
    """Takes the result of a sequence's part of a step; void ones are not.

    Args:
      work: what was computed; not void.
      tokens: drawn, if any were: the right drafts and one more.
      logprobs: theirs.

    Returns:
      The sequence if a token ended it; tokens after that one are left out.
    """
    sequence = work.sequence
    right = max(len(tokens) - 1, 0)
    sequence.scheduled += right
    sequence.confirmed = work.end + right
    sequence.in_flight -= work.draws
    guessed, sequence.drafts = sequence.drafts, ()
    finish, error = None, None
    for token, logprob in zip(tokens, logprobs, strict=True):
      try:
        finish = self._append(sequence, token, logprob)
      except Exception as problem:  # a guide's, and nobody else's business
        finish, error = Finish.ERROR, f"a guide failed: {problem}"
      if finish is not None:
        break
    size = self.memory.page_size
    if sequence.confirmed // size > work.start // size:
      self.memory.publish(sequence)
    if finish is not None:
      return self.finish(sequence, finish, error)
    if guessed:  # pages were taken for all, the work may have kept none
      self.memory.trim(sequence, sequence.total)
    return None

  def finish(
    self, sequence: Sequence, reason: Finish, error: str | None = None
  ) -> Ended:
    """Ends a sequence in whatever state it is.

    Args:
      sequence: not finished.
      reason: why it ends.
      error: what failed, if that is why.
    """
    self._leave(sequence)
    self._roll_back(sequence)
    self.memory.release(sequence)
    sequence.state = State.FINISHED
    return Ended(sequence, sequence.complete(reason, self._clock(), error))

  def park(self, sequence: Sequence) -> None:
    """Stops computing a sequence; it keeps its pages while nobody needs them.

    What is in flight of it is void.

    Args:
      sequence: running or injected.
    """
    if sequence.state not in (State.RUNNING, State.INJECTED):
      raise RequestError(_wrong_state("parked", sequence, "running"))
    self._leave(sequence)
    self._roll_back(sequence)
    sequence.state = State.PARKED
    bisect.insort(self.parked, sequence, key=_age)

  def inject(self, sequence: Sequence, tokens: list[int]) -> None:
    """Appends tokens that were not drawn, behind the last known one.

    A running sequence goes on in its slot and its pages; a parked one runs
    again. What is in flight of it is void. The tokens count as prompt.

    Args:
      sequence: running, injected or parked; or waiting, if it has drawn.
      tokens: to append; none only wakes a parked sequence.
    """
    if sequence.state is State.FINISHED:
      raise RequestError(_wrong_state("injected into", sequence, "alive"))
    self.check(len(sequence.tokens) + len(tokens), 1)
    self._roll_back(sequence)
    if tokens:
      sequence.inject(tokens)
    # The next token comes from the last one, whose keys may be there already.
    last = len(sequence.tokens) - 1
    sequence.scheduled = min(sequence.scheduled, last)
    if sequence.state is State.PARKED:
      self._leave(sequence)
      sequence.state = State.WAITING
      bisect.insort(self.waiting, sequence, key=_age)
    elif sequence.state is State.RUNNING and tokens:
      sequence.state = State.INJECTED

  def reset(self) -> None:
    """Takes all pages from everybody: what they held is lost.

    Sequences that ran are computed again.
    """
    for sequence in [*self.running, *self.parked, *self.waiting]:
      self._evict(sequence)
    self.memory.cache.clear()

  def _append(
    self, sequence: Sequence, token: int, logprob: float
  ) -> Finish | None:
    """Takes a drawn token; returns why it is the last one, if it is."""
    sequence.tokens.append(token)
    sequence.drawn.append(token)
    sequence.token_times.append(self._clock())
    if sequence.request.logprobs:
      sequence.logprobs.append(logprob)
    ends = [guide.push(token) for guide in sequence.guides]
    if token in sequence.stops or any(ends):
      return Finish.STOP
    full = len(sequence.tokens) >= self.limit
    if full or len(sequence.drawn) == sequence.request.max_tokens:
      return Finish.LENGTH
    return None

  def _advance(self, sequence: Sequence, plan: Plan) -> None:
    """Plans the next positions of a sequence that runs."""
    start, left = sequence.scheduled, sequence.total - sequence.scheduled
    if sequence.to_draw <= 0 or sequence.total >= self.limit or left < 1:
      return  # its end, or a token that it waits for, is in flight
    if sequence.in_flight and (sequence.narrowed or sequence.drafts):
      return  # what comes next depends on what is in flight
    room = (self._blocks - plan.blocks) * self._block
    alone, count = left == 1, left
    if not self._exact:
      end = sequence.given_until(start)
      alone, count = end == start, min(left, max(end - start, 1))
    count = count if alone else min(count, room)
    if not count or not self._make_room(sequence, start + count):
      return
    draws = count == left
    work = Work(sequence, start, start + count, draws, sequence.epoch)
    if alone:
      sequence.drafts = self._affordable(sequence)
      plan.decodes.append(work._replace(drafts=sequence.drafts))
    else:
      plan.pieces.append(work)
      plan.blocks += -(-count // self._block)
    sequence.scheduled += count
    if draws:
      sequence.in_flight += 1
      sequence.state = State.RUNNING

  def _affordable(self, sequence: Sequence) -> tuple[int, ...]:
    """The drafts that can be of use, if there are pages that nobody has."""
    total = sequence.total
    most = max(min(sequence.to_draw, self.limit - total) - 1, 0)
    drafts = sequence.drafts[:most]
    return drafts if self.memory.extend(sequence, total + len(drafts)) else ()

  def _make_room(self, sequence: Sequence, end: int) -> bool:
    """Finds pages for a running sequence, if need be those of younger ones."""
    while not self.memory.extend(sequence, end):
      victim = (self._idle(sequence) or self.running)[-1]
      self._evict(victim)
      if victim is sequence:
        return False
    return True

  def _admit(self, sequence: Sequence) -> bool:
    """Finds pages for a sequence in line; from those that run, none."""
    while not self.memory.admit(sequence, reserve=len(self.running)):
      idle = self._idle(sequence)
      if self.running or not idle:
        return False
      self._evict(idle[-1])
    return True

  def _idle(self, sequence: Sequence) -> list[Sequence]:
    """Others that hold pages and do not run; the first to yield comes last."""
    others = (*self.waiting, *self.parked)
    return [other for other in others if other.pages and other is not sequence]

  def _start(self, sequence: Sequence) -> Sequence:
    sequence.slot = self._free_slots.pop()
    sequence.state = State.RUNNING
    if sequence.admitted is None:
      sequence.admitted = self._clock()
      sequence.cached_tokens = sequence.scheduled
    bisect.insort(self.running, sequence, key=_age)
    return sequence

  def _evict(self, sequence: Sequence) -> None:
    """Takes a sequence's pages; it waits, unless it was parked."""
    if sequence.pages:
      self.preemptions += 1
      sequence.preemptions += 1
    self._roll_back(sequence)
    self.memory.release(sequence)
    if sequence.slot is not None:
      self._leave(sequence)
      sequence.state = State.WAITING
      bisect.insort(self.waiting, sequence, key=_age)

  def _roll_back(self, sequence: Sequence) -> None:
    """Makes what is in flight of a sequence void."""
    if not self._exact and (sequence.in_flight or sequence.slot is None):
      # Its slot has learnt from a void step, or is another's from now on.
      sequence.scheduled = min(sequence.scheduled, sequence.first_drawn)
    sequence.epoch += 1
    sequence.in_flight = 0
    sequence.drafts = ()
    self.memory.trim(sequence, len(sequence.tokens))
    sequence.scheduled = min(sequence.scheduled, len(sequence.tokens))

  def _leave(self, sequence: Sequence) -> None:
    """Takes a sequence out of its queue, and its slot from it."""
    for queue in (self.waiting, self.running, self.parked):
      if sequence in queue:
        queue.remove(sequence)
    if sequence.slot is not None:
      self._free_slots.append(sequence.slot)
      sequence.slot = None


def _age(sequence: Sequence) -> int:
  return sequence.number


def _wrong_state(what: str, sequence: Sequence, wanted: str) -> str:
  return (
    f"request {sequence.number} cannot be {what}: got state "
    f"{sequence.state.value}, expected {wanted}"
  )
