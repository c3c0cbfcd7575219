r"""Reads named scopes, and the time spent in them, from XLA's trace.

XLA's profiler writes one `*.xplane.pb` per host. Its events name instructions
(`hlo_op`) and programs (`program_id`) but not our scopes: those stand in the
`op_name` of the compiled programs, which the file holds as serialised
`HloProto` messages that `jax.profiler.ProfileData` does not expose. So they are
read from the wire format here, by field number:

  XSpace.planes 1 > XPlane: name 2, event_metadata 4 > value 2 > XEventMetadata:
    name 2 = "program(id)", stats 5 > XStat.bytes_value 6 = HloProto
  HloProto.hlo_module 1 > computations 3 > instructions 2 >
    HloInstructionProto: name 1, opcode 2, metadata 7 > op_name 2,
      called computations 38, by the computations' id 5
"""

import collections
import contextlib
import dataclasses
import functools
import pathlib
import re
import warnings
from collections.abc import Iterator, Sequence, Set
from typing import Any

import jax

# Their events contain those of the instructions inside.
_CONTAINERS = frozenset({"while", "conditional", "call"})
# Path components that JAX adds and nobody has named.
_STRUCTURE = re.compile(
  "while|body|cond|branch_[0-9]+_fun|closed_call|checkpoint"
  "|rematted_computation"
)
_WRAPPED = re.compile(r"(\w+)\((.*)\)")


@dataclasses.dataclass(frozen=True)
class Operation:
  """A run of a compiled program's instruction.

  Attributes:
    device: XLA's number of the device.
    scope: its path of named scopes; empty outside of any.
    opcodes: XLA's name of what it does, `dot` or `fusion`, and of all that is
      fused into it.
    start: when it began, in seconds of the recording.
    end: when it ended.
  """

  device: int
  scope: str
  opcodes: frozenset[str]
  start: float
  end: float


@dataclasses.dataclass(frozen=True)
class _Instruction:
  scope: str
  opcode: str
  fused: frozenset[str]

  @property
  def is_container(self) -> bool:
    return self.opcode in _CONTAINERS

  @property
  def opcodes(self) -> frozenset[str]:
    return self.fused | {self.opcode}


@dataclasses.dataclass(frozen=True)
class _Program:
  module: str
  number: int
  proto: bytes

  @functools.cached_property
  def instructions(self) -> dict[str, _Instruction]:
    return _instructions(self.proto)


def scope_seconds(folder: pathlib.Path) -> dict[str, float]:
  """Returns the time spent in each named scope of a recording.

  Time is summed over devices and threads and counted where the instruction ran;
  the scope "layer_0/attention" does not include its inner scopes. Forward,
  backward and rematerialised passes count together. A scope whose every
  instruction has been fused into one of another scope is there with 0 seconds.
  Instructions outside of any scope count under "".

  Args:
    folder: what `trace.profile` was given.

  Returns:
    Seconds by scope path.

  Raises:
    FileNotFoundError: there is no trace in the folder.
  """
  seconds: dict[str, float] = collections.defaultdict(float)
  for file in _files(folder):
    for program, ran in _ran(file.read_bytes()):
      for instruction in program.values():
        seconds[instruction.scope] += 0.0
      for one in ran:
        seconds[one.scope] += one.end - one.start
  return dict(seconds)


def operations(folder: pathlib.Path, *, within: str) -> list[Operation]:
  """Returns what began on this process's devices within a span, run by run.

  Loops and conditionals are left out: what runs inside them is there.

  Args:
    folder: what `trace.profile` was given, with one recording in it.
    within: name of a `trace.span` that was opened once.

  Raises:
    FileNotFoundError: there is no trace in the folder.
    ValueError: there is no such span in it, or more than one.
  """
  [file] = _files(folder)
  space = file.read_bytes()
  spans = [event for event in _events(space) if event.name == within]
  if len(spans) != 1:
    raise ValueError(
      f"got {len(spans)} spans {within!r} in {file}, expected one"
    )
  start = spans[0].start_ns / 1e9
  end = start + spans[0].duration_ns / 1e9
  return [
    one for _, ran in _ran(space) for one in ran if start <= one.start <= end
  ]


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  files = sorted(folder.rglob("*.xplane.pb"))
  if not files:
    raise FileNotFoundError(
      f"got no *.xplane.pb under {folder}; expected a folder that"
      " research.telemetry.trace.profile has written"
    )
  return files


def _ran(
  space: bytes,
) -> Iterator[tuple[dict[str, _Instruction], list[Operation]]]:
  """Yields each program that ran, and its runs but for containers."""
  events = _op_events(space)
  programs = list(_programs(space, {module for module, _ in events}))
  unknown = _Instruction("", "", frozenset())
  for (module, number), ran in events.items():
    names = {op for op, *_ in ran}
    program = _match(programs, module, number, names)
    named = [(program.get(op, unknown), d, s, e) for op, d, s, e in ran]
    yield (
      program,
      [
        Operation(device, one.scope, one.opcodes, start / 1e9, end / 1e9)
        for one, device, start, end in named
        if not one.is_container
      ],
    )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
  """Lets jaxlib's reader make its types, which it does at their first use.

  From Python 3.12 on that warns, and aborts the process where warnings are
  errors.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    yield


@_silent()
def _op_events(
  space: bytes,
) -> dict[tuple[str, int], list[tuple[str, int, float, float]]]:
  """Returns (instruction, device, start, end in ns), by (module, id)."""
  programs: dict[Any, list] = collections.defaultdict(list)
  for event in _events(space):
    stats: dict[Any, Any] = dict(event.stats)
    if "hlo_op" in stats:
      key = (stats["hlo_module"], stats.get("program_id", -1))
      device, start = stats.get("device_ordinal", 0), event.start_ns
      programs[key].append(
        (stats["hlo_op"], device, start, start + event.duration_ns)
      )
  return programs


@_silent()
def _events(space: bytes) -> list[Any]:
  data = jax.profiler.ProfileData.from_serialized_xspace(space)
  return [
    e for plane in data.planes for line in plane.lines for e in line.events
  ]


def _match(
  programs: Sequence[_Program], module: str, number: int, ops: Set[str]
) -> dict[str, _Instruction]:
  """Returns the instructions of the program that the events belong to.

  Events of a program out of the compilation cache carry the id of the process
  that compiled it, the stored program carries a new one. So its name and its
  instructions must fit, and the id only decides between several that do.
  """
  named = [program for program in programs if program.module == module]
  for program in sorted(named, key=lambda program: program.number != number):
    if ops <= program.instructions.keys():
      return program.instructions
  return {}


def _programs(space: bytes, modules: Set[str]) -> Iterator[_Program]:
  """Yields programs of these names; a trace holds all of its process."""
  for plane in _fields(space)[1]:
    for entry in _fields(plane)[4]:
      for event in map(_fields, _fields(entry)[2]):
        name = b"".join(event[2]).decode()
        match = re.fullmatch(r"(.*)\((\d+)\)", name)
        if match is None or match[1] not in modules:
          continue
        for proto in (b for stat in event[5] for b in _fields(stat)[6]):
          yield _Program(match[1], int(match[2]), proto)


def _instructions(hlo_proto: bytes) -> dict[str, _Instruction]:
  opcodes: dict[int, set[str]] = {}  # of each computation
  found = []
  for module in map(_fields, _fields(hlo_proto)[1]):
    for computation in map(_fields, module[3]):
      inside = opcodes.setdefault(computation[5][0], set())
      for instruction in map(_fields, computation[2]):
        name, opcode = (b"".join(instruction[i]).decode() for i in (1, 2))
        op_names = [n for m in instruction[7] for n in _fields(m)[2]]
        scope = _scope(op_names[0].decode() if op_names else "")
        inside.add(opcode)
        called = _numbers(instruction[38]) if opcode == "fusion" else []
        found.append((name, opcode, scope, called))
  return {
    name: _Instruction(
      scope, opcode, frozenset().union(*(opcodes[one] for one in called))
    )
    for name, opcode, scope, called in found
  }


def _scope(op_name: str) -> str:
  """Returns the path of named scopes in an op name.

  Example:
    >>> _scope("jit(step)/transpose(jvp(layer_0))/attention/dot_general")
    'layer_0/attention'
    >>> _scope("jit(step)/while/body/closed_call/mlp/jit(silu)/exp")
    'mlp'
  """
  path = []
  for part in op_name.split("/")[:-1]:
    while (match := _WRAPPED.fullmatch(part)) is not None:
      # jit(f) names a function; jvp(s), vmap(s), transpose(s) wrap a scope.
      part = "" if match[1] in ("jit", "pjit") else match[2]
    if part and not _STRUCTURE.fullmatch(part):
      path.append(part)
  return "/".join(path)


def _numbers(values: Sequence[bytes | int]) -> list[int]:
  """Returns the integers of a field, packed or not."""
  numbers = []
  for value in values:
    if isinstance(value, int):
      numbers.append(value)
      continue
    at = 0
    while at < len(value):
      number, at = _varint(value, at)
      numbers.append(number)
  return numbers


def _fields(message: bytes) -> dict[int, list[Any]]:
  """Returns a protobuf message's values by field: integers, or bytes."""
  fields = collections.defaultdict(list)
  at = 0
  while at < len(message):
    key, at = _varint(message, at)
    wire_type = key & 7
    if wire_type == 0:
      number, at = _varint(message, at)
      fields[key >> 3].append(number)
    elif wire_type == 2:
      size, at = _varint(message, at)
      fields[key >> 3].append(message[at : at + size])
      at += size
    else:  # fixed: 1 is eight bytes, 5 is four
      at += 8 if wire_type == 1 else 4
  return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = message[at]
    at += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, at
    shift += 7
