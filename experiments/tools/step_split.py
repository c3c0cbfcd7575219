"""Where the wall time of a recorded call went, on each device."""

from collections.abc import Iterable, Mapping, Sequence

from research.telemetry import xplane

#: What time goes to. An instant in which several things run counts for the
#: first of them, so that messages count where no work hides them.
GROUPS = ("matmul", "other", "all_reduce", "transfer", "idle")

_MESSAGES = frozenset(
  {
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    *("collective-permute", "collective-broadcast"),
  }
)


def split(
  operations: Iterable[xplane.Operation], wall: float
) -> list[dict[str, float]]:
  """Divides a call's time.

  A message counts from when a device asks for it to when it is there, the wait
  for a slower sender included. What the all-reduces add up counts as theirs.

  Args:
    operations: all that ran during the call, and nothing else.
    wall: seconds that the call took.

  Returns:
    Seconds by `GROUPS` for each device that did anything; `transfer` is what
    passes between devices outside of all-reduces. They add up to `wall`.
  """
  devices: dict[int, list[xplane.Operation]] = {}
  for one in operations:
    devices.setdefault(one.device, []).append(one)
  return [_of_device(devices[device], wall) for device in sorted(devices)]


def mean(splits: Sequence[Mapping[str, float]]) -> dict[str, float]:
  """Averages over devices."""
  return {
    group: sum(one[group] for one in splits) / len(splits) for group in GROUPS
  }


def _of_device(
  operations: Sequence[xplane.Operation], wall: float
) -> dict[str, float]:
  edges = []
  for one in operations:
    rank = GROUPS.index(_group(one))
    edges += [(one.start, rank, 1), (one.end, rank, -1)]
  edges.sort()
  seconds, running, before = [0.0] * len(GROUPS), [0] * len(GROUPS), 0.0
  for at, rank, change in edges:
    first = next((i for i, count in enumerate(running) if count), None)
    if first is not None:
      seconds[first] += at - before
    running[rank] += change
    before = at
  seconds[-1] = wall - sum(seconds)
  return dict(zip(GROUPS, seconds, strict=True))


def _group(operation: xplane.Operation) -> str:
  if "all_reduce" in operation.scope.split("/"):
    return "all_reduce"
  if "dot" in operation.opcodes:
    return "matmul"
  return "other" if operation.opcodes.isdisjoint(_MESSAGES) else "transfer"
