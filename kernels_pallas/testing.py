"""Checks that prove a GPU kernel without a GPU; they work on any Pallas kernel.

From cheap to dear: results against a reference, reads that must not happen,
races, lowering for CUDA, what the assembler makes of a kernel, and what XLA
makes of the program around it. None of them times anything: interpreted kernels
say nothing about speed.

Example (a kernel that JAX ships; the last two need `make gpucc`):
  >>> import functools
  >>> from jax.experimental.pallas.ops.gpu import decode_attention
  >>> keys = jax.random.split(jax.random.key(0), 3)
  >>> q = jax.random.normal(keys[0], (1, 16, 64))
  >>> k, v = (jax.random.normal(key, (1, 256, 64)) for key in keys[1:])
  >>> ours = functools.partial(
  ...   decode_attention.mqa, k_splits=2, block_h=16)
  >>> interpreted = functools.partial(ours, interpret=True)
  >>> assert_matches_reference(
  ...   interpreted, decode_attention.mqa_reference, (q, k, v), rtol=1e-5)
  >>> first = functools.partial(interpreted, kv_seq_len=jnp.array([128]))
  >>> unread = jnp.broadcast_to(jnp.arange(256)[:, None] >= 128, (1, 256, 64))
  >>> assert_never_reads(first, (q, k, v), (None, unread, unread))
  >>> (kernel,) = assert_lowers(ours, q, k, v)
  >>> kernel.grid
  (1, 2, 1)
  >>> assert_resources(kernel, sm=90).registers  # doctest: +SKIP
  >>> assert_compiles(ours, q, k, v).temp_bytes  # doctest: +SKIP

`assert_race_free` is for kernels with barriers or semaphores of their own, and
has an example there. A test that passes `interpret=interpreted()` runs the real
kernel where there is a GPU.

As a pytest plugin (`pytest -p kernels_pallas.testing`, or `pytest_plugins` of a
`conftest.py`) it says at the top of a run what kernels run on and whether there
is a GPU compiler, and pytest explains the checks' own asserts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels_pallas import gpucc, lowered, programs, races

LoweredKernel = lowered.LoweredKernel
Program = programs.Program
Resources = lowered.Resources
assert_compiles = programs.assert_compiles
assert_lowers = lowered.assert_lowers
assert_race_free = races.assert_race_free
assert_resources = lowered.assert_resources


def interpreted() -> bool:
  """Whether kernels must be interpreted here, for want of a GPU."""
  return jax.default_backend() != "gpu"


def pytest_report_header() -> str:
  """Says what the kernels run on, and where the GPU compiler is."""
  where = f"interpreted on {jax.default_backend()}"
  if not interpreted():
    where = f"run on {jax.devices()[0].device_kind}"
  compiler = gpucc.find() or "none, its tests skip (`make gpucc`)"
  return f"kernels: {where}; GPU compiler: {compiler}"


def assert_matches_reference(
  kernel: Callable[..., Any],
  reference: Callable[..., Any],
  args: Sequence[Any],
  *,
  rtol: float,
) -> None:
  """Asserts that a kernel computes what its reference does.

  Args:
    kernel: the function to check; interpreted, where there is no GPU.
    reference: the same function written plainly.
    args: given to both.
    rtol: most error, as a part of each output's largest finite magnitude.
      Integers must be equal, and infinities in the same places.

  Raises:
    AssertionError: names the output, its error and the tolerance.
  """
  got, expected = (
    jax.tree_util.tree_leaves_with_path(f(*args)) for f in (kernel, reference)
  )
  names = [jax.tree_util.keystr(path) for path, _ in expected]
  assert [jax.tree_util.keystr(path) for path, _ in got] == names
  for name, (_, ours), (_, theirs) in zip(names, got, expected, strict=True):
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), name
    if not jnp.issubdtype(ours.dtype, jnp.floating):
      np.testing.assert_array_equal(ours, theirs, err_msg=name)
      continue
    ours, theirs = (np.asarray(x, np.float64) for x in (ours, theirs))
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(ours[~finite], theirs[~finite], err_msg=name)
    limit = rtol * np.abs(theirs[finite]).max(initial=0.0)
    error = np.abs(ours[finite] - theirs[finite]).max(initial=0.0)
    assert error <= limit, (
      f"output {name}: got error {error:.3g}, expected at most {limit:.3g}"
    )


def assert_never_reads(
  kernel: Callable[..., Any],
  args: Sequence[Any],
  unread: Sequence[np.ndarray | jax.Array | None],
) -> None:
  """Asserts that elements which must not be read do not reach any output.

  NaN is planted in them. A kernel that reads all and multiplies by a weight of
  zero fails, since 0 times NaN is NaN. One that reads all and then selects
  passes: `assert_resources` shows whether loads themselves are predicated.

  Args:
    kernel: the function to check.
    args: for the kernel.
    unread: for each argument a mask of what must not be read, or `None`.

  Raises:
    AssertionError: an output changed.
    ValueError: there is nothing to plant, so the check could not fail.
  """
  if not any(mask is not None and mask.any() for mask in unread):
    raise ValueError("unread: got no element, expected at least one to poison")
  poisoned = [
    x if mask is None else jnp.where(mask, jnp.nan, x)
    for x, mask in zip(args, unread, strict=True)
  ]
  clean, after = (
    jax.tree_util.tree_leaves_with_path(kernel(*x)) for x in (args, poisoned)
  )
  for (path, before), (_, now) in zip(clean, after, strict=True):
    name = jax.tree_util.keystr(path)
    before, now = (np.asarray(x, np.float64) for x in (before, now))
    assert not np.isnan(before).any(), f"output {name} is NaN unpoisoned"
    changed = int((before != now).sum())
    assert not changed, (
      f"output {name}: {changed} of {before.size} elements changed when NaN "
      "was planted where nothing must be read"
    )
