"""Implementations compiled once for all tests of this folder."""

import functools

import jax

from kernels_pallas.threshold_attention import (
  reference,
  triton,
  triton_launch,
  triton_one_pass,
  xla,
)
from tests.kernels_pallas.threshold_attention import cases

_MODULES = {
  "reference": reference,
  "xla": xla,
  "triton": triton,
  "triton_one_pass": triton_one_pass,
}


@functools.cache
def compiled(name, *, sinks=0, block=16, splits=2, threshold=None, config=None):
  """An implementation; kernels interpreted, in small blocks.

  Args:
    name: of `api.IMPLEMENTATIONS`.
    sinks: first tokens that are kept.
    block: tokens of a block of the kernels.
    splits: programs that share a row.
    threshold: a function in place of the case's numbers.
    config: launch shape, in place of block and splits.

  Returns:
    A function of a case's arguments.
  """
  attend = functools.partial(
    _MODULES[name].attend, scale=cases.SCALE, sinks=sinks
  )
  if name.startswith("triton"):
    config = config or triton_launch.Config(block=block, splits=splits)
    attend = functools.partial(attend, config=config, interpret=True)
  if threshold is None:
    return jax.jit(attend)
  return jax.jit(lambda *args: attend(*args[:5], threshold, args[6]))
