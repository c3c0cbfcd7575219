"""Race detection: Pallas's interpreters with vector clocks, on the CPU."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal
from unittest import mock

import jax
from jax._src.pallas.mosaic.interpret import (
  interpret_pallas_call as tpu_interpreter,
)
from jax._src.pallas.mosaic.interpret import race_detection_state
from jax._src.pallas.mosaic_gpu.interpret import (
  gpu_callbacks as gpu_interpreter,
)
from jax._src.pallas.mosaic_gpu.interpret import params as gpu_params
from jax.experimental.pallas import tpu as pltpu

_MARK = "RACE DETECTED"


def assert_race_free(
  fn: Callable[..., Any], *args: Any, machine: Literal["gpu", "tpu"]
) -> Any:
  """Asserts that no two unordered accesses of a kernel touch the same memory.

  The kernels run in Pallas's interpreter of that machine, which keeps a vector
  clock for every thread and copy: accesses that no barrier or semaphore orders
  are a race even where this run happened to get them right. Pair the check with
  a mutant, the kernel with one wait removed, which it must catch.

  "gpu" interprets Mosaic GPU kernels: threads, shared memory, barriers,
  asynchronous copies; the blocks of a grid run in turn, and races between them
  are not seen. "tpu" interprets Mosaic TPU kernels, whose remote copies and
  semaphores also work between devices: an algorithm that talks from GPU to GPU
  is checked as a twin written with them, under `jax.shard_map` on host devices
  (`jax_num_cpu_devices`).

  Args:
    fn: calls kernels that do not say `interpret=` themselves.
    *args: for `fn`.
    machine: whose interpreter.

  Returns:
    What `fn` returned, to be compared with a reference.

  Raises:
    AssertionError: there is a race; the first is named, all are printed.
    ValueError: no kernel was interpreted, so the check could not fail.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax.experimental.pallas import mosaic_gpu as plgpu
    >>> def kernel(x_ref, out_ref, staged_ref, barrier):
    ...   plgpu.copy_gmem_to_smem(x_ref, staged_ref, barrier)
    ...   plgpu.barrier_wait(barrier)  # without it: a race
    ...   out_ref[...] = staged_ref[...] + 1.0
    >>> add_one = plgpu.kernel(
    ...   kernel, out_type=jax.ShapeDtypeStruct((128,), jnp.float32),
    ...   scratch_types=[
    ...     plgpu.SMEM((128,), jnp.float32), plgpu.Barrier()])
    >>> float(assert_race_free(add_one, jnp.ones(128), machine="gpu").sum())
    256.0
  """
  with _recorded() as states, contextlib.redirect_stdout(io.StringIO()) as text:
    with _interpreted(machine):
      result = jax.block_until_ready(fn(*args))
  report = text.getvalue()
  sys.stdout.write(report)
  if not states:
    raise ValueError(
      f"machine: got {machine!r}, but no kernel ran in its interpreter; "
      "expected fn to call one that does not set interpret="
    )
  if any(state.races_found for state in states):
    first = report.partition(_MARK)[2].strip().split("\n\n")[0]
    lines = [x.strip() for x in first.splitlines() if "clock:" not in x]
    raise AssertionError(
      f"{report.count(_MARK)} races, first: {'; '.join(lines)}"
    )
  return result


@contextlib.contextmanager
def _interpreted(machine: str) -> Iterator[None]:
  """Runs kernels in an interpreter, and leaves no state in it."""
  if machine == "gpu":
    mode = gpu_params.force_gpu_interpret_mode(
      gpu_params.InterpretGPUParams(detect_races=True)
    )
  else:
    mode = pltpu.force_tpu_interpret_mode(
      pltpu.InterpretParams(detect_races=True)
    )
  try:
    with mode:
      yield
  finally:
    gpu_interpreter.reset_gpu_interpret_mode_state()
    tpu_interpreter.reset_tpu_interpret_mode_state()


@contextlib.contextmanager
def _recorded() -> Iterator[list[race_detection_state.RaceDetectionState]]:
  """Collects the state of every kernel; JAX keeps only the last one's."""
  states = []

  def start(*args: Any, **kwargs: Any):
    states.append(race_detection_state.RaceDetectionState(*args, **kwargs))
    return states[-1]

  with contextlib.ExitStack() as stack:
    for module in (gpu_interpreter, tpu_interpreter):
      stack.enter_context(
        mock.patch.object(module, "RaceDetectionState", start)
      )
    yield states
