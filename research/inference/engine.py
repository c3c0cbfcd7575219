"""The engine: continuous batching of requests over a paged cache.

  engine = Engine(model, Settings(), eos_ids=[words.eos_id])
  engine.warm_up()
  answers = engine.generate([Request(words.encode("Once upon"))])

It knows tokens only. `step` is all there is to it: decide on a step, dispatch
it, and then take the results of the step before, which the device finished
meanwhile. The README beside this file shows how a step flows.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from research.inference import batch as batch_lib
from research.inference import memory, parallel, runner, sampling, scheduler
from research.inference import request as request_lib
from research.inference.protocol import Event
from research.inference.request import Completion, Finish, Request, RequestError
from research.transformer import checkpoints


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What an engine has room for.

  Attributes:
    num_pages: pages of the pool.
    page_size: tokens a page holds; 64 to 128 suits a CPU.
    rows: sequences that decode together, by compiled shape; as many as the last
      one run at once.
    pieces: tokens of prompts that a step takes beside them, by compiled shape;
      multiples of `block`. A smaller last one means steadier decoding, a larger
      one prompts that are read sooner.
    block: tokens of a prompt that are attended together.
    prefix_cache: keep finished pages for prompts that begin alike.
  """

  num_pages: int = 256
  page_size: int = 64
  rows: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
  pieces: tuple[int, ...] = (64, 256)
  block: int = 32
  prefix_cache: bool = True

  def __post_init__(self) -> None:
    ascending = all(
      sizes and list(sizes) == sorted(set(sizes)) and sizes[0] > 0
      for sizes in (self.rows, self.pieces)
    )
    if not ascending or any(size % self.block for size in self.pieces):
      raise RequestError(
        f"engine shapes: got rows {self.rows} and pieces {self.pieces}, "
        f"expected both ascending and pieces in multiples of {self.block}"
      )

  @property
  def shapes(self) -> list[batch_lib.Shape]:
    """The steps to compile: beside a prompt rows are few or as many as can."""
    decoding = [batch_lib.Shape(rows, 0) for rows in self.rows]
    mixed = itertools.product(
      sorted({self.rows[0], self.rows[-1]}), self.pieces
    )
    blocks = lambda tokens: tokens // self.block
    return decoding + [batch_lib.Shape(r, blocks(t)) for r, t in mixed]


class _Pending(NamedTuple):
  """A step on the device."""

  plan: scheduler.Plan
  rows: int
  answers: runner.Answers


class Engine:
  """Answers requests together; a request's answer does not depend on others.

  Args:
    model: the decoder and its weights.
    settings: what there is room for.
    eos_ids: tokens that end an answer.
    layout: where weights and pool lie; on one device when omitted.
    clock: gives seconds.

  Attributes:
    scheduler: its queues and counters.
    runner: its compiled steps.
    steps: dispatched so far.
  """

  def __init__(
    self,
    model: checkpoints.Model,
    settings: Settings | None = None,
    *,
    eos_ids: Sequence[int] = (),
    layout: parallel.Layout | None = None,
    clock: Callable[[], float] = time.perf_counter,
  ):
    settings = settings or Settings()
    self._vocab, self._eos = model.config.vocab_size, frozenset(eos_ids)
    self._clock, self._numbers = clock, itertools.count()
    pages = memory.Memory(
      settings.num_pages, settings.page_size, share=settings.prefix_cache
    )
    self.scheduler = scheduler.Scheduler(
      pages,
      slots=settings.rows[-1],
      blocks=settings.pieces[-1] // settings.block,
      block=settings.block,
      context=model.config.context_length,
      clock=clock,
    )
    sizes = batch_lib.Sizes(
      block=settings.block,
      pages=pages.count(self.scheduler.limit),
      num_pages=settings.num_pages,
      slots=settings.rows[-1],
    )
    self.runner = runner.Runner(
      model,
      sizes,
      settings.page_size,
      settings.shapes,
      layout or parallel.Alone(),
    )
    self.steps = 0
    self._live: dict[int, request_lib.Sequence] = {}
    self._pending: _Pending | None = None
    self._events: list[Event] = []

  @property
  def has_work(self) -> bool:
    """Whether `step` would do anything; parked requests alone are no work."""
    queues = self.scheduler.waiting or self.scheduler.running
    return bool(queues or self._pending or self._events)

  def warm_up(self) -> None:
    """Compiles all steps, so that no request waits for a compiler."""
    self.runner.warm_up()

  def generate(self, requests: Sequence[Request]) -> list[Completion]:
    """Answers requests, in their order; see `TokenEngine`.

    Raises:
      RequestError: if one of them can never be served; then none is.
    """
    for request in requests:
      self._check(request)
    numbers = [self.add(request) for request in requests]
    missing, done = set(numbers), {}
    others: list[Event] = []
    while missing:
      for event in self.step():
        if event.number not in missing:
          others.append(event)
        elif event.completion is not None:
          done[event.number] = event.completion
          missing.remove(event.number)
    self._events = others + self._events
    return [done[number] for number in numbers]

  def add(self, request: Request) -> int:
    """Takes a request in line.

    Returns:
      Its number, which its events carry.

    Raises:
      RequestError: if it can never be served.
    """
    self._check(request)
    sequence = request_lib.Sequence(
      number=next(self._numbers),
      request=request,
      row=sampling.rows([request.sampling]),
      stops=frozenset(request.stop_ids)
      | (frozenset() if request.ignore_eos else self._eos),
      arrived=self._clock(),
      tokens=list(request.prompt),
    )
    self.scheduler.add(sequence)
    self._live[sequence.number] = sequence
    return sequence.number

  def step(self) -> list[Event]:
    """Dispatches a step, and takes the results of the one before.

    A step that fails ends the requests in it with `Finish.ERROR`. All others
    lose their pages, are computed again, and never notice.

    Returns:
      What happened since the last call.
    """
    before, self._pending = self._pending, None
    plan = self.scheduler.schedule()
    if self.scheduler.waiting and not plan and before is None:
      raise RuntimeError("nothing runs, yet no request fits: a page was lost")
    failed: Exception | None = None
    try:
      self._pending = self._dispatch(plan) if plan else None
    except Exception as error:  # whatever it is, it is this step's alone
      failed = error
    if before is not None:
      self._collect(before)
    if failed is not None:
      self._fail(plan, failed)
    events, self._events = self._events, []
    return events

  def abort(self, number: int) -> None:
    """Ends a request in whatever state it is; unknown ones are over already."""
    if number in self._live:
      self._end(self.scheduler.finish(self._live[number], Finish.ABORT))

  def park(self, number: int) -> None:
    """Stops computing a request, which keeps its pages while none are short.

    Raises:
      RequestError: if it does not run.
    """
    self.scheduler.park(self._find(number))

  def inject(self, number: int, tokens: Sequence[int]) -> None:
    """Appends tokens that were not drawn behind the last one of its events.

    A parked request runs again, which is all that happens without tokens.

    Raises:
      RequestError: if it is over, or would become too long.
    """
    self._check_tokens(tokens)
    self.scheduler.inject(self._find(number), list(tokens))

  def _dispatch(self, plan: scheduler.Plan) -> _Pending:
    shape = self.runner.fit(len(plan.decodes), plan.blocks)
    batch = batch_lib.pack(plan, shape, self.runner.sizes)
    self.steps += 1
    return _Pending(plan, shape.rows, self.runner.dispatch(batch))

  def _collect(self, pending: _Pending) -> None:
    try:
      tokens, logprobs = runner.fetch(pending.answers)
    except Exception as error:  # as above: a device reports when it is asked
      self._fail(pending.plan, error)
      return
    plan = pending.plan
    rows = itertools.chain(
      range(len(plan.decodes)), itertools.count(pending.rows)
    )
    for work, row in zip(plan, rows, strict=False):
      if not work.void:
        self._take(work, int(tokens[row]), float(logprobs[row]))

  def _take(self, work: scheduler.Work, token: int, logprob: float) -> None:
    wanted = work.sequence.request.logprobs
    ended = self.scheduler.collect(work, token, logprob if wanted else None)
    if ended is not None:
      self._end(ended, token)
    elif work.draws:
      self._events.append(Event(work.sequence.number, token, None))

  def _fail(self, plan: scheduler.Plan, error: Exception) -> None:
    """Ends what was in a step, and starts the others afresh."""
    text = f"a step failed: {type(error).__name__}: {error}"
    for work in plan:
      if not work.void:
        ended = self.scheduler.finish(work.sequence, Finish.ERROR, text)
        self._end(ended)
    self.scheduler.reset()
    self._pending = None
    self.runner.reset()

  def _end(self, ended: scheduler.Ended, token: int | None = None) -> None:
    number = ended.sequence.number
    del self._live[number]
    self._events.append(Event(number, token, ended.completion))

  def _find(self, number: int) -> request_lib.Sequence:
    if number not in self._live:
      raise RequestError(f"request {number}: got a number of no live request")
    return self._live[number]

  def _check(self, request: Request) -> None:
    self._check_tokens(request.prompt)
    self._check_tokens(request.sampling.logit_bias)
    self.scheduler.check(len(request.prompt), request.max_tokens)

  def _check_tokens(self, tokens: Collection[int]) -> None:
    wrong = [token for token in tokens if not 0 <= token < self._vocab]
    if wrong:
      raise RequestError(
        f"token out of range: got {wrong[0]}, expected 0 to {self._vocab - 1}"
      )
