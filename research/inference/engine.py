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

from absl import logging

from research.inference import batch as batch_lib
from research.inference import (
  guides,
  memory,
  parallel,
  runner,
  sampling,
  scheduler,
  speculation,
)
from research.inference import request as request_lib
from research.inference.protocol import Event
from research.inference.request import Completion, Finish, Request, RequestError
from research.telemetry import trace
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
    drafts: guesses that a row may carry, by compiled shape; of an engine that
      has a drafter. All rows and their guesses together are at most as many
      tokens as the last of `pieces`.
    prefix_cache: keep finished pages for prompts that begin alike.
  """

  num_pages: int = 256
  page_size: int = 64
  rows: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
  pieces: tuple[int, ...] = (64, 256)
  block: int = 32
  drafts: tuple[int, ...] = (4, 16)
  prefix_cache: bool = True

  def __post_init__(self) -> None:
    ascending = all(
      sizes and list(sizes) == sorted(set(sizes)) and sizes[0] > 0
      for sizes in (self.rows, self.pieces, self.drafts)
    )
    if not ascending or any(size % self.block for size in self.pieces):
      raise RequestError(
        f"engine shapes: got rows {self.rows}, pieces {self.pieces} and drafts "
        f"{self.drafts}, expected all ascending and pieces in multiples of "
        f"{self.block}"
      )

  def shapes(self, *, verify: bool) -> list[batch_lib.Shape]:
    """The steps to compile: beside a prompt rows are few or as many as can.

    Args:
      verify: with those that verify drafts.
    """
    lengths = (1, *(1 + drafts for drafts in self.drafts if verify))
    alone = [(rows, 0) for rows in self.rows]
    few_or_many = sorted({self.rows[0], self.rows[-1]})
    mixed = itertools.product(
      few_or_many, [tokens // self.block for tokens in self.pieces]
    )
    return [
      batch_lib.Shape(rows, blocks, length)
      for (rows, blocks), length in itertools.product([*alone, *mixed], lengths)
      if length == 1 or rows * length <= self.pieces[-1]
    ]


class _Pending(NamedTuple):
  """A step on the device."""

  plan: scheduler.Plan
  shape: batch_lib.Shape
  answers: runner.Answers


class Engine:
  """Answers requests together; a request's answer does not depend on others.

  Args:
    model: the decoder and its weights.
    settings: what there is room for.
    eos_ids: tokens that end an answer.
    layout: where weights and pool lie; on one device when omitted.
    drafter: guesses next tokens, which steps then verify; tokens are those of
      an engine without one.
    clock: gives seconds.

  Raises:
    RequestError: if there is a drafter though attention is not exact.

  Attributes:
    scheduler: its queues and counters.
    runner: its compiled steps.
    steps: dispatched so far.
    drafted: guesses verified so far.
    accepted: those of them that were right.
  """

  def __init__(
    self,
    model: checkpoints.Model,
    settings: Settings | None = None,
    *,
    eos_ids: Sequence[int] = (),
    layout: parallel.Layout | None = None,
    drafter: speculation.Drafter | None = None,
    clock: Callable[[], float] = time.perf_counter,
  ):
    settings, layout = settings or Settings(), layout or parallel.Alone()
    if drafter is not None and not layout.exact:
      raise RequestError(
        "drafter: got one, expected none: attention is inexact"
      )
    self._vocab, self._eos = model.config.vocab_size, frozenset(eos_ids)
    self._clock, self._numbers = clock, itertools.count()
    self._drafter = drafter
    pages = memory.Memory(
      settings.num_pages,
      settings.page_size,
      share=settings.prefix_cache,
      exact=layout.exact,
    )
    self.scheduler = scheduler.Scheduler(
      pages,
      slots=settings.rows[-1],
      blocks=settings.pieces[-1] // settings.block,
      block=settings.block,
      context=model.config.context_length,
      clock=clock,
      exact=layout.exact,
    )
    sizes = batch_lib.Sizes(
      block=settings.block,
      pages=pages.count(self.scheduler.limit),
      num_pages=settings.num_pages,
      slots=settings.rows[-1],
      vocab=model.config.vocab_size,
    )
    self.runner = runner.Runner(
      model,
      sizes,
      settings.page_size,
      settings.shapes(verify=drafter is not None),
      layout,
    )
    self.steps = self.drafted = self.accepted = 0
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
      guides=[start() for start in request.guides],
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
    if before is not None and self._depends:
      self._collect(before)
      before = None
    if self._drafter is not None:
      with trace.span("draft"):
        self._draft(self._drafter)
    with trace.span("schedule"):
      plan = self.scheduler.schedule()
    if self.scheduler.waiting and not plan and before is None:
      raise RuntimeError("nothing runs, yet no request fits: a page was lost")
    failed: Exception | None = None
    with trace.span("narrow"):
      self._narrow(plan)
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

  @property
  def _depends(self) -> bool:
    """Whether the next step depends on the tokens of the one before."""
    narrowed = any(s.narrowed for s in self.scheduler.running)
    return narrowed or self._drafter is not None

  def _draft(self, drafter: speculation.Drafter) -> None:
    """Asks for guesses of those that decode; without any they go on too."""
    ready = self.scheduler.decoding
    most = self.runner.longest(len(ready)) - 1
    prefixes = [
      speculation.Prefix(s.number, s.tokens, s.request.sampling) for s in ready
    ]
    try:
      found = drafter.propose(prefixes, most) if ready and most > 0 else ()
    except Exception as error:  # it only makes things faster
      logging.warning("no drafts: %s: %s", type(error).__name__, error)
      return
    known = lambda token: 0 <= token < self._vocab
    for sequence, drafts in zip(ready, found, strict=False):
      sequence.drafts = tuple(itertools.takewhile(known, drafts[:most]))

  def _dispatch(self, plan: scheduler.Plan) -> _Pending:
    length = 1 + max((len(work.drafts) for work in plan.decodes), default=0)
    shape = self.runner.fit(len(plan.decodes), plan.blocks, length)
    plan.decodes = [work.cut(shape.length - 1) for work in plan.decodes]
    with trace.span("pack"):
      batch = batch_lib.pack(plan, shape, self.runner.sizes)
    self.steps += 1
    with trace.span("dispatch", **shape._asdict()):
      return _Pending(plan, shape, self.runner.dispatch(batch))

  def _narrow(self, plan: scheduler.Plan) -> None:
    """Asks guides which tokens may come; a guide that fails ends its own."""
    for works in (plan.decodes, plan.pieces):
      for index, work in reversed([*enumerate(works)]):
        guided = work.sequence.guides if work.draws else ()
        try:
          drafts, masks = guides.combine(guided, work.drafts, self._vocab)
          works[index] = work._replace(drafts=drafts, masks=masks)
        except Exception as error:
          text = f"a guide failed: {error}"
          self._end(self.scheduler.finish(work.sequence, Finish.ERROR, text))
          del works[index]

  def _collect(self, pending: _Pending) -> None:
    try:
      with trace.span("fetch", **pending.shape._asdict()):
        tokens, logprobs = runner.fetch(pending.answers)
    except Exception as error:  # as above: a device reports when it is asked
      self._fail(pending.plan, error)
      return
    draws = batch_lib.slices(pending.plan, pending.shape)
    with trace.span("collect"):
      for work, drawn in zip(pending.plan, draws, strict=True):
        if not work.void:
          self._take(work, tokens[drawn].tolist(), logprobs[drawn].tolist())

  def _take(
    self, work: scheduler.Work, tokens: list[int], logprobs: list[float]
  ) -> None:
    sequence, right = work.sequence, work.num_right(tokens)
    self.drafted += len(work.drafts)
    self.accepted += right
    count, before = right + work.draws, len(sequence.drawn)
    ended = self.scheduler.collect(work, tokens[:count], logprobs[:count])
    new = sequence.drawn[before:]
    last = new.pop() if ended is not None else None
    self._events += [Event(sequence.number, token, None) for token in new]
    if ended is not None:
      self._end(ended, last)

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
    trace.life("request", number, *ended.completion.timing.phases)
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
