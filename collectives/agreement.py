"""Do all processes mean to run the same collectives? Asked before they do."""

import collections
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from collectives.faults import LostPeerError
from research.cluster import store

_PATIENCE = 1.0  # seconds for which all may read the plans after an error
_ROUNDS: collections.Counter[str] = collections.Counter()
_NOT_MESSAGES = {"axis_index", "pvary", "pcast"}


class DisagreementError(RuntimeError):
  """Processes would run different collectives."""


def plan(function: Callable, *args: Any) -> tuple[str, ...]:
  """Lists the collectives of a function, in the order of its trace.

  What `jit` adds by itself, to reshard arrays, is not among them.

  Args:
    function: what is to run, with `shard_map` in or around it.
    *args: its arguments, or their `jax.ShapeDtypeStruct`.

  Returns:
    One line for each collective, mesh and loop around collectives.

  Example:
    >>> from jax.sharding import PartitionSpec as P
    >>> import collectives
    >>> from research import mesh
    >>> step = jax.shard_map(
    ...   lambda x: collectives.all_reduce(x, "node", algorithm="ring"),
    ...   mesh=mesh.make_mesh({"node": 2}), in_specs=P("node"), out_specs=P())
    >>> for line in plan(step, jax.ShapeDtypeStruct((8,), "float32")):
    ...   print(line)
    shard_map over {'node': 2} of devices (0, 1)
    schedule_sum of float32[4]: algorithm=ring, axes=('node',), chunks=1
  """
  return tuple(_lines(jax.make_jaxpr(function)(*args).jaxpr))


def check_agreement(
  name: str, plan: Sequence[str], *, timeout: float | int = 60
) -> None:
  """Raises on every process unless all have the same plan.

  A mismatch found later is an abort, a time-out or, where messages happen to
  fit, wrong numbers. The plans are compared as notes
  (`research.cluster.store`), without a collective. A single process agrees with
  itself.

  Args:
    name: of what is to run; the same on all processes.
    plan: what `collectives.plan` lists, or any lines that are to be the same.
    timeout: seconds to wait for the slowest process to get here.

  Raises:
    DisagreementError: names the processes that differ from most, and the first
      line that does.
    LostPeerError: names the processes that have not come here in time.
    store.UnreachableError: process 0 does not answer.
  """
  if jax.process_count() == 1:
    return
  _ROUNDS[name] += 1
  digest = hashlib.sha256("\n".join(plan).encode()).hexdigest()[:16]
  store.put(f"plans/{digest}/lines", "\n".join(plan))
  key = f"agreement/{_ROUNDS[name]}/{name}"
  said, missing = store.exchange(key, digest, timeout=timeout)
  if missing:
    store.exchange(f"{key}/read", "", timeout=_PATIENCE)
    raise LostPeerError(
      f"{name}: got no plan from processes {missing} in {timeout:g} s; expected"
      f" all {jax.process_count()} to check {name!r}; they are late, dead or"
      " run something else"
    )
  # The most frequent; of two, that of the lower process.
  counts = collections.Counter(said[i] for i in sorted(said))
  usual = counts.most_common(1)[0][0]
  others = {i: other for i, other in sorted(said.items()) if other != usual}
  if others:
    first = next(iter(others))
    where = _difference(_fetch(usual), _fetch(others[first]), first)
    # The plans end with process 0: it waits until all have read them.
    store.exchange(f"{key}/read", "", timeout=_PATIENCE)
    raise DisagreementError(
      f"{name}: got another plan on processes {list(others)}, expected that of"
      f" the other {counts[usual]}; {where}; give all processes the same"
      " arguments and flags"
    )


def _fetch(digest: str) -> list[str]:
  return store.read(f"plans/{digest}")["lines"].splitlines()


def _difference(usual: list[str], other: list[str], process: int) -> str:
  pairs = itertools.zip_longest(usual, other, fillvalue="nothing")
  number, (wanted, got) = next(
    (i, pair) for i, pair in enumerate(pairs, 1) if pair[0] != pair[1]
  )
  return f"line {number} is {got!r} on process {process}, elsewhere {wanted!r}"


def _lines(jaxpr: Any) -> Iterator[str]:
  for eqn in jaxpr.eqns:
    inner = [line for part in _parts(eqn) for line in _lines(part)]
    if eqn.primitive.name == "shard_map":
      yield _describe_mesh(eqn.params["mesh"])
    elif inner and "length" in eqn.params:
      yield f"{eqn.primitive.name}, {eqn.params['length']} times:"
    elif _is_message(eqn):
      yield _describe(eqn)
    yield from inner


def _parts(eqn: Any) -> Iterator[Any]:
  for value in eqn.params.values():
    for part in value if isinstance(value, tuple | list) else [value]:
      part = getattr(part, "jaxpr", part)
      if hasattr(part, "eqns"):
        yield part


def _is_message(eqn: Any) -> bool:
  axes = eqn.params.get("axes", eqn.params.get("axis_name", ()))
  axes = axes if isinstance(axes, tuple | list) else (axes,)
  named = any(isinstance(axis, str) for axis in axes)
  return named and eqn.primitive.name not in _NOT_MESSAGES


def _describe(eqn: Any) -> str:
  arrays = ", ".join(
    f"{x.aval.dtype}[{','.join(map(str, x.aval.shape))}]" for x in eqn.invars
  )
  how = ", ".join(f"{k}={eqn.params[k]}" for k in sorted(eqn.params))
  return f"{eqn.primitive.name} of {arrays}: {how}"


def _describe_mesh(mesh: Any) -> str:
  devices = getattr(mesh, "device_ids", None)  # an abstract mesh has none
  where = (
    "" if devices is None else f" of devices {tuple(devices.ravel().tolist())}"
  )
  return f"shard_map over {dict(mesh.shape)}{where}"
