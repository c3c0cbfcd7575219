"""How the entry to a kernel picks one of its implementations."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
from absl import logging

_Run = TypeVar("_Run", bound=Callable)
_Result = TypeVar("_Result")


class UnsupportedError(NotImplementedError):
  """An implementation cannot serve these arguments on this machine."""


def first(
  entry: str,
  known: Mapping[str, _Run],
  implementation: str | Sequence[str] | None,
  call: Callable[[_Run], _Result],
  *,
  gpu: Sequence[str],
) -> _Result:
  """Calls the first implementation that takes the arguments.

  Args:
    entry: name of the function that users call, for the log.
    known: implementations by name, `"xla"` among them.
    implementation: a name, or several in order of preference; by default those
      for GPUs on a GPU, and else XLA, with a line in the log.
    call: runs one.
    gpu: the names to try first on a GPU.

  Returns:
    What `call` returns.

  Raises:
    ValueError: an unknown name, or none.
    UnsupportedError: no implementation of those named takes the arguments.

  Example:
    >>> def refuse():
    ...   raise UnsupportedError("got a whim")
    >>> known = {"xla": lambda: 1, "own": refuse}
    >>> first("sum", known, ("own", "xla"), lambda run: run(), gpu=["own"])
    1
  """
  refused = []
  for name in _names(entry, known, implementation, gpu):
    try:
      return call(known[name])
    except UnsupportedError as error:
      refused.append(f"{name}: {error}")
      if implementation is None:
        logging.info("%s does without %s: %s", entry, name, error)
  raise UnsupportedError("; ".join(refused))


@functools.cache
def _say_once(entry: str, backend: str) -> None:
  logging.info('%s takes "xla": the backend is %s, not gpu', entry, backend)


def _names(
  entry: str,
  known: Mapping[str, Callable],
  implementation: str | Sequence[str] | None,
  gpu: Sequence[str],
) -> Sequence[str]:
  """The implementations to try, in order."""
  if implementation is None:
    if jax.default_backend() == "gpu":
      return (*gpu, "xla")
    _say_once(entry, jax.default_backend())
    return ("xla",)
  if isinstance(implementation, str):
    implementation = (implementation,)
  unknown = [name for name in implementation if name not in known]
  if unknown or not implementation:
    raise ValueError(
      f"implementation: got {implementation!r}, expected names out of "
      f"{sorted(known)}"
    )
  return implementation
