r"""Reads named scopes, and the time spent in them, from XLA's trace.

XLA's profiler writes one `*.xplane.pb` per host. Its events name instructions
(`hlo_op`) and programs (`program_id`) but not our scopes: those stand in the
`op_name` of the compiled programs, which the file holds as serialised
`HloProto` messages that `jax.profiler.ProfileData` does not expose. So they are
read from the wire format here, by field number:

  XSpace.planes 1 > XPlane: name 2, event_metadata 4 > value 2 > XEventMetadata:
    name 2 = "program(id)", stats 5 > XStat.bytes_value 6 = HloProto
  HloProto.hlo_module 1 > computations 3 > instructions 2 >
    HloInstructionProto: name 1, opcode 2, metadata 7 > op_name 2
"""

import collections
import dataclasses
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
class _Instruction:
  scope: str
  is_container: bool


@dataclasses.dataclass(frozen=True)
class _Program:
  module: str
  number: int
  instructions: dict[str, _Instruction]


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
  files = sorted(folder.rglob("*.xplane.pb"))
  if not files:
    raise FileNotFoundError(
      f"got no *.xplane.pb under {folder}; expected a folder that"
      " research.telemetry.trace.profile has written"
    )
  seconds: dict[str, float] = collections.defaultdict(float)
  for file in files:
    _add_file(file.read_bytes(), seconds)
  return dict(seconds)


def _add_file(space: bytes, seconds: dict[str, float]) -> None:
  ran = _op_seconds(space)
  programs = list(_programs(space, {module for module, _ in ran}))
  for (module, number), ops in ran.items():
    program = _match(programs, module, number, ops.keys())
    for instruction in program.values():
      seconds[instruction.scope] += 0.0
    for op, spent in ops.items():
      instruction = program.get(op, _Instruction("", False))
      if not instruction.is_container:
        seconds[instruction.scope] += spent


def _op_seconds(space: bytes) -> dict[tuple[str, int], dict[str, float]]:
  """Returns seconds by instruction, by (module, program id)."""
  programs: dict[Any, dict[str, float]] = collections.defaultdict(
    lambda: collections.defaultdict(float)
  )
  with warnings.catch_warnings():
    # From Python 3.12 on, jaxlib's reader makes its types with a warning, and
    # aborts the process where warnings are errors.
    warnings.simplefilter("ignore", DeprecationWarning)
    for event in _events(space):
      stats: dict[Any, Any] = dict(event.stats)
      if "hlo_op" in stats:
        key = (stats["hlo_module"], stats.get("program_id", -1))
        programs[key][stats["hlo_op"]] += event.duration_ns / 1e9
  return programs


def _events(space: bytes) -> Iterator[Any]:
  for plane in jax.profiler.ProfileData.from_serialized_xspace(space).planes:
    for line in plane.lines:
      yield from line.events


def _match(
  programs: Sequence[_Program], module: str, number: int, ops: Set[str]
) -> dict[str, _Instruction]:
  """Returns the instructions of the program that the events belong to.

  Events of a program out of the compilation cache carry the id of the process
  that compiled it, the stored program carries a new one. So its name and its
  instructions must fit, and the id only decides between several that do.
  """
  fits = [
    program
    for program in programs
    if program.module == module and ops <= program.instructions.keys()
  ]
  fits.sort(key=lambda program: program.number != number)
  return fits[0].instructions if fits else {}


def _programs(space: bytes, modules: Set[str]) -> Iterator[_Program]:
  """Yields programs of these names; a trace holds all of its process."""
  for plane in _values(space, 1):
    for entry in _values(plane, 4):
      for event in _values(entry, 2):
        name = b"".join(_values(event, 2)).decode()
        match = re.fullmatch(r"(.*)\((\d+)\)", name)
        if match is None or match[1] not in modules:
          continue
        for proto in (b for s in _values(event, 5) for b in _values(s, 6)):
          yield _Program(match[1], int(match[2]), _instructions(proto))


def _instructions(hlo_proto: bytes) -> dict[str, _Instruction]:
  instructions = {}
  for module in _values(hlo_proto, 1):
    for computation in _values(module, 3):
      for instruction in _values(computation, 2):
        name, opcode = (
          b"".join(_values(instruction, field)).decode() for field in (1, 2)
        )
        op_names = (
          n.decode() for m in _values(instruction, 7) for n in _values(m, 2)
        )
        instructions[name] = _Instruction(
          _scope(next(op_names, "")), opcode in _CONTAINERS
        )
  return instructions


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


def _values(message: bytes, field: int) -> Iterator[bytes]:
  """Yields the length-delimited values of one field of a protobuf message."""
  at = 0
  while at < len(message):
    key, at = _varint(message, at)
    wire_type = key & 7
    if wire_type == 0:
      _, at = _varint(message, at)
    elif wire_type == 2:
      size, at = _varint(message, at)
      if key >> 3 == field:
        yield message[at : at + size]
      at += size
    else:  # fixed: 1 is eight bytes, 5 is four
      at += 8 if wire_type == 1 else 4


def _varint(message: bytes, at: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = message[at]
    at += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, at
    shift += 7
