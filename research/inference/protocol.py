"""What users of an engine need; any engine may stand behind it."""

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from research.inference.request import Completion, Request


class Event(NamedTuple):
  """Something that happened to a request.

  Attributes:
    number: the request's.
    token: the token drawn; `None` where it ended without one.
    completion: the whole answer, in its last event.
  """

  number: int
  token: int | None
  completion: Completion | None


@runtime_checkable  # the tests' type checker looks with isinstance
class TokenEngine(Protocol):
  """Answers many requests at once: evaluation, roll-outs."""

  def generate(self, requests: Sequence[Request]) -> list[Completion]:
    """Answers requests, in their order.

    Raises:
      RequestError: if one of them can never be served; then none is.
    """
    ...


@runtime_checkable
class TokenStreams(Protocol):
  """Answers requests as they come, token by token: servers, agents."""

  def stream(self, request: Request) -> AsyncGenerator[Event, None]:
    """Yields what happens to a request; the last event has its completion.

    Closing the iterator early aborts the request.

    Raises:
      RequestError: if it can never be served.
    """
    ...
