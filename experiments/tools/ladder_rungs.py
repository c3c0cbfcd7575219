"""What `experiments.tools.ladder` needs to know of a kernel at one shape."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from kernels_pallas import implementations
from research.telemetry import peer

CALLS = 20  # of a timed call: one alone would time its launch


class Check(NamedTuple):
  """Whether a kernel is right.

  Attributes:
    kernel: its name.
    case: what was computed.
    holds: whether it agrees; None if it does not support this machine.
    error: if it does not agree, how; or why it is not supported.
  """

  kernel: str
  case: str
  holds: bool | None
  error: str


@dataclasses.dataclass(frozen=True)
class Rung:
  """One shape of one operation.

  Attributes:
    operation: what the kernels compute.
    name: of the shape.
    sizes: of the shape.
    checks: runs the kernels, and compares.
    candidates: calls to be timed beside one another, by name; none if nothing
      is.
  """

  operation: str
  name: str
  sizes: Mapping[str, Any]
  checks: Callable[[], Iterator[Check]]
  candidates: Callable[[], Mapping[str, Callable[[], Any]]]


def judge(kernel: str, case: str, compare: Callable[[], None]) -> Check:
  """Runs a comparison; whatever it raises is what is wrong.

  Example:
    >>> judge("own", "all", lambda: None).holds
    True
  """
  try:
    compare()
  except implementations.UnsupportedError as caught:
    return Check(kernel, case, None, str(caught))
  except Exception as caught:  # a compiler's or the driver's included
    return Check(kernel, case, False, f"{type(caught).__name__}: {caught}")
  return Check(kernel, case, True, "")


def repeat(call: Callable[..., Any], *args: Any) -> Callable[[], list[Any]]:
  """A call to be timed, `CALLS` times over, or one that refuses to be.

  Returns:
    What raises `peer.PeerUnavailableError` with the reason if `call` cannot run
    here.
  """
  try:
    jax.block_until_ready(call(*args))
  except Exception as error:  # of a library that is not there, or its limits
    reason = str(error).splitlines()[0] if str(error) else repr(error)

    def refuse() -> list[Any]:
      raise peer.PeerUnavailableError(reason)

    return refuse
  return lambda: [call(*args) for _ in range(CALLS)]
