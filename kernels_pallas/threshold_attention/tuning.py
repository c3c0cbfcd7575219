r"""Which launch shapes a compiler's figures allow, without a GPU.

    python -m kernels_pallas.threshold_attention.tuning [SHAPE ...]

compiles the Triton kernels of every shape in `shapes.py` for a small grid of
launch shapes and prints, for each, registers and shared memory of every kernel,
and how many bytes of keys or values an H100's multiprocessor has in flight:
what hides the latency of its memory. `triton_launch.config_for` follows the
table. Nothing is timed; a GPU may well prefer another.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence

import jax.numpy as jnp

from kernels_pallas import testing
from kernels_pallas.threshold_attention import (
  shapes,
  triton,
  triton_launch,
  triton_one_pass,
)

KERNELS = {"two-pass": triton.attend, "one-pass": triton_one_pass.attend}

_SM = 90
# Of a multiprocessor of sm_90, from NVIDIA's table of compute capabilities.
_REGISTERS, _SHARED_BYTES, _WARPS, _PROGRAMS = 65536, 233472, 64, 32
_RESERVED_BYTES = 1024  # of shared memory, for every program
_MOST_REGISTERS = 224  # leaves a margin below the 255 at which kernels spill


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One launch shape, compiled.

  Attributes:
    config: the launch shape.
    kernels: what each kernel uses.
    width_bytes: bytes of a key or value.
  """

  config: triton_launch.Config
  kernels: tuple[testing.Resources, ...]
  width_bytes: int

  @property
  def in_flight_bytes(self) -> int:
    """Bytes being loaded by a full multiprocessor; the least of the kernels.

    A program loads one block at a time: of keys, the next one. More stages than
    two load the number of its page ahead as well, and no second block.
    """
    programs = min(resident(x, self.config.num_warps) for x in self.kernels)
    return programs * self.config.block * self.width_bytes


def resident(used: testing.Resources, num_warps: int) -> int:
  """Programs that fit a multiprocessor together.

  Args:
    used: what a kernel uses.
    num_warps: of a program.

  Returns:
    Their number, by registers, shared memory, warps and the hardware's limit.
  """
  of_warp = -(-used.registers // 8) * 8 * 32
  return min(
    _REGISTERS // (of_warp * num_warps),
    _SHARED_BYTES // (used.shared_bytes + _RESERVED_BYTES),
    _WARPS // num_warps,
    _PROGRAMS,
  )


def candidates(shape: shapes.Shape, kind: str) -> Iterator[Candidate]:
  """Compiles a grid of launch shapes; leaves out those that spill.

  Args:
    shape: the sizes.
    kind: a name of `KERNELS`.

  Yields:
    Launch shapes with what they use.
  """
  for block in (32, 64, 128):
    if shape.page_size % block:
      continue
    for warps in (4, 8):
      for stages in (1, 2, 3):
        config = triton_launch.Config(block, 2, warps, stages)
        found = _compile(shape, kind, config)
        if found is not None:
          width = shape.head_dim * jnp.dtype(shape.dtype).itemsize
          yield Candidate(config, found, width)


def best(found: Sequence[Candidate]) -> Candidate:
  """Returns the candidate that keeps the most bytes in flight.

  Out of those that load ahead and leave some registers free; where several keep
  as many, the one with the fewest rounds of its loop.
  """
  fit = [
    x
    for x in found
    if x.config.num_stages > 1
    and max(y.registers for y in x.kernels) <= _MOST_REGISTERS
  ]
  return max(fit, key=lambda x: (x.in_flight_bytes, x.config.block))


def _compile(shape: shapes.Shape, kind: str, config: triton_launch.Config):
  attend = functools.partial(KERNELS[kind], scale=1.0, sinks=4, config=config)
  kernels = testing.assert_lowers(attend, *shape.arguments())
  try:
    return tuple(testing.assert_resources(x, sm=_SM) for x in kernels)
  except AssertionError:  # it spills
    return None


def _line(found: Candidate) -> str:
  """A row of the table."""
  config = found.config
  used = " ".join(f"{x.registers:3} {x.shared_bytes:6}" for x in found.kernels)
  return (
    f"block {config.block:3} warps {config.num_warps} stages "
    f"{config.num_stages}: {used}  {found.in_flight_bytes:6}"
  )


def main(names: list[str]) -> None:
  """Prints the table of the shapes named, or of all."""
  for shape in shapes.SHAPES:
    if names and shape.name not in names:
      continue
    for kind in KERNELS:
      print(f"{shape.name}, {kind}", flush=True)
      found = list(candidates(shape, kind))
      for one in found:
        print(f"  {_line(one)}")
      print(f"  best: {_line(best(found))}", flush=True)


if __name__ == "__main__":
  main(sys.argv[1:])
