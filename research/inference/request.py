"""What is asked of an engine, what it answers, and what it keeps meanwhile."""

import dataclasses
import enum
from collections.abc import Callable
from collections.abc import Sequence as ListOf
from typing import NamedTuple

from research.inference import sampling as sampling_lib
from research.inference.guides import Guide


class RequestError(ValueError):
  """A request cannot be served; the message says why in one line."""


class State(enum.Enum):
  """Where a sequence is in its life."""

  WAITING = "waiting"  #: in line: new, preempted or called back
  RUNNING = "running"  #: in every step
  PARKED = "parked"  #: keeps its pages while nothing is computed
  INJECTED = "injected"  #: running; tokens from outside are still to be read
  FINISHED = "finished"


class Finish(enum.Enum):
  """Why a sequence ended."""

  STOP = "stop"  #: its last token ends it, or a guide does
  LENGTH = "length"  #: as many tokens as asked for, or as fit
  ABORT = "abort"  #: the caller ended it
  ERROR = "error"  #: a step that it was part of failed


@dataclasses.dataclass(frozen=True)
class Request:
  """Tokens to continue, and how.

  Attributes:
    prompt: token numbers.
    sampling: how to draw.
    max_tokens: tokens to draw at most.
    stop_ids: tokens that end the answer, as the model's own end does.
    ignore_eos: go on after the model's own end.
    logprobs: also return each drawn token's log-probability.
    guides: each starts one that follows the drawn tokens: a grammar, or texts
      to stop at. Injected tokens are none of its business.

  Raises:
    RequestError: if the prompt is empty or max_tokens below 1.
  """

  prompt: ListOf[int]
  _: dataclasses.KW_ONLY
  sampling: sampling_lib.Sampling = sampling_lib.Sampling()
  max_tokens: int = 128
  stop_ids: ListOf[int] = ()
  ignore_eos: bool = False
  logprobs: bool = False
  guides: ListOf[Callable[[], Guide]] = ()

  def __post_init__(self) -> None:
    if not len(self.prompt):
      raise RequestError("empty prompt: got 0 tokens, expected at least 1")
    if self.max_tokens < 1:
      raise RequestError(f"max_tokens: got {self.max_tokens}, expected >= 1")

  def copies(self, count: int) -> list["Request"]:
    """Returns requests that differ in their seeds: several answers to a prompt.

    An engine with a prefix cache reads the prompt's whole pages once.

    Args:
      count: answers wanted.
    """
    seeds = range(self.sampling.seed, self.sampling.seed + count)
    return [
      dataclasses.replace(
        self, sampling=dataclasses.replace(self.sampling, seed=seed)
      )
      for seed in seeds
    ]


class Timing(NamedTuple):
  """When things happened to a request, in seconds of one clock.

  Attributes:
    arrived: it was added.
    admitted: it got its first pages; `None` if it never did.
    tokens: each drawn token was known.
    finished: it ended.
  """

  arrived: float
  admitted: float | None
  tokens: tuple[float, ...]
  finished: float

  @property
  def queue_s(self) -> float | None:
    """Seconds until it was admitted."""
    return None if self.admitted is None else self.admitted - self.arrived

  @property
  def ttft_s(self) -> float | None:
    """Seconds until its first token."""
    return self.tokens[0] - self.arrived if self.tokens else None

  @property
  def itl_s(self) -> tuple[float, ...]:
    """Seconds between tokens."""
    pairs = zip(self.tokens, self.tokens[1:], strict=False)
    return tuple(after - before for before, after in pairs)

  @property
  def phases(self) -> list[tuple[str, float, float]]:
    """Name, begin and end of what it went through, for a trace."""
    starts = [
      ("queue", self.arrived),
      ("prefill", self.admitted),
      ("decode", self.tokens[0] if self.tokens else None),
    ]
    known = [(name, at) for name, at in starts if at is not None]
    ends = [*(at for _, at in known[1:]), self.finished]
    return [(*one, end) for one, end in zip(known, ends, strict=True)]

  @property
  def e2e_s(self) -> float:
    """Seconds until it ended."""
    return self.finished - self.arrived


class Completion(NamedTuple):
  """The answer to a request.

  Attributes:
    tokens: what was drawn, the token that ended it included.
    finish: why it ended.
    logprobs: one a token if asked for, else empty.
    prompt_tokens: tokens read: the prompt, and what was injected.
    cached_tokens: of the prompt, those whose pages were there already.
    preemptions: how often its pages were taken and computed again.
    timing: when things happened.
    error: what failed, of those that ended so.
  """

  tokens: tuple[int, ...]
  finish: Finish
  logprobs: tuple[float, ...]
  prompt_tokens: int
  cached_tokens: int
  preemptions: int
  timing: Timing
  error: str | None


@dataclasses.dataclass(eq=False)
class Sequence:
  """A request being served: the scheduler's view of it.

  Attributes:
    number: order of arrival, its name.
    request: what was asked.
    row: its sampling settings as arrays of one row.
    stops: tokens that end it.
    arrived: when.
    tokens: all known ones: prompt, drawn and injected.
    state: where it is.
    slot: where the device keeps its last token; `None` unless it runs.
    pages: that hold its keys and values, in order.
    scheduled: leading tokens whose keys were computed or are being.
    confirmed: leading tokens whose keys are known to be computed.
    in_flight: tokens drawn on the device and not known yet.
    epoch: counts rollbacks; results of an earlier epoch are void.
    drawn: tokens drawn and known.
    given: where tokens stand that were not drawn: the first one and the one
      after the last of the prompt, and of what was injected.
    guides: that follow them.
    drafts: guesses of the next ones, for the next step.
  """

  number: int
  request: Request
  row: sampling_lib.Rows
  stops: frozenset[int]
  arrived: float
  tokens: list[int]
  state: State = State.WAITING
  slot: int | None = None
  pages: list[int] = dataclasses.field(default_factory=list)
  scheduled: int = 0
  confirmed: int = 0
  in_flight: int = 0
  epoch: int = 0
  drawn: list[int] = dataclasses.field(default_factory=list)
  logprobs: list[float] = dataclasses.field(default_factory=list)
  token_times: list[float] = dataclasses.field(default_factory=list)
  admitted: float | None = None
  cached_tokens: int = 0
  preemptions: int = 0
  guides: ListOf[Guide] = ()
  drafts: tuple[int, ...] = ()
  given: list[tuple[int, int]] = dataclasses.field(init=False)

  def __post_init__(self) -> None:
    self.given = [(0, len(self.tokens))]

  @property
  def total(self) -> int:
    """Tokens known or in flight."""
    return len(self.tokens) + self.in_flight

  @property
  def first_drawn(self) -> int:
    """Where the first drawn token stands, or will."""
    return self.given[0][1]

  def inject(self, tokens: ListOf[int]) -> None:
    """Appends tokens that were not drawn."""
    start = len(self.tokens)
    self.tokens += tokens
    if self.given[-1][1] == start:
      start, _ = self.given.pop()
    self.given.append((start, len(self.tokens)))

  def given_until(self, position: int) -> int:
    """Where the tokens end that were not drawn, from a position on."""
    spans = (span for span in self.given if span[0] <= position < span[1])
    return next((end for _, end in spans), position)

  @property
  def narrowed(self) -> bool:
    """Whether a guide says which tokens may come next."""
    return any(guide.narrows for guide in self.guides)

  @property
  def to_draw(self) -> int:
    """Tokens that may still be drawn, beyond those in flight."""
    return self.request.max_tokens - len(self.drawn) - self.in_flight

  def complete(
    self, finish: Finish, now: float, error: str | None
  ) -> Completion:
    """Returns the answer.

    Args:
      finish: why it ended.
      now: when, in seconds.
      error: what failed, if that is why.
    """
    return Completion(
      tuple(self.drawn),
      finish,
      tuple(self.logprobs),
      len(self.tokens) - len(self.drawn),
      self.cached_tokens,
      self.preemptions,
      Timing(self.arrived, self.admitted, tuple(self.token_times), now),
      error,
    )
