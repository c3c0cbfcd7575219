"""Races are caught on both machines, and right kernels pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.experimental.pallas import tpu as pltpu

from kernels_pallas import testing

_ROWS, _WIDTH = 32, 128
_DEVICES = 4


def _kept_rows(v, keep, *, wait=True):
  """Adds up the kept rows; only they are copied, row by row."""

  def kernel(v_ref, keep_ref, out_ref, keep_smem, v_smem, keep_there, v_there):
    plgpu.copy_gmem_to_smem(keep_ref, keep_smem, keep_there)
    plgpu.barrier_wait(keep_there)

    def fetch(i, carry):
      @pl.when(keep_smem[i] > 0)
      def _():
        plgpu.copy_gmem_to_smem(v_ref.at[i], v_smem.at[i], v_there)

      @pl.when(keep_smem[i] == 0)
      def _():
        plgpu.barrier_arrive(v_there)

      return carry

    def add(i, carry):
      @pl.when(keep_smem[i] > 0)
      def _():
        out_ref[...] += v_smem[i]

      return carry

    lax.fori_loop(0, _ROWS, fetch, 0)
    if wait:
      plgpu.barrier_wait(v_there)
    out_ref[...] = jnp.zeros((_WIDTH,), jnp.float32)
    lax.fori_loop(0, _ROWS, add, 0)

  return plgpu.kernel(
    kernel,
    out_type=jax.ShapeDtypeStruct((_WIDTH,), jnp.float32),
    scratch_types=[
      plgpu.SMEM((_ROWS,), jnp.int32),
      plgpu.SMEM((_ROWS, _WIDTH), jnp.float32),
      plgpu.Barrier(),
      plgpu.Barrier(num_arrivals=_ROWS),
    ],
  )(v, keep)


def _pass_on(x, *, wait=True):
  """Adds to each device's block that of the device before it in a ring."""

  def kernel(x_ref, out_ref, got_ref, sent, arrived):
    me = lax.axis_index("x")
    after = lax.rem(me + 1, _DEVICES)
    before = lax.rem(me + _DEVICES - 1, _DEVICES)
    barrier = pltpu.get_barrier_semaphore()
    for neighbour in (before, after):
      pl.semaphore_signal(barrier, 1, device_id=(neighbour,))
    pl.semaphore_wait(barrier, 2)
    out_ref[...] = x_ref[...]
    copy = pltpu.make_async_remote_copy(
      x_ref, got_ref, sent, arrived, device_id=(after,)
    )
    copy.start()
    copy.wait_send()
    if wait:
      copy.wait_recv()
    out_ref[...] += got_ref[...]
    if not wait:
      copy.wait_recv()

  return pl.pallas_call(
    kernel,
    out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
    scratch_shapes=[
      pltpu.VMEM(x.shape, x.dtype),
      pltpu.SemaphoreType.DMA,
      pltpu.SemaphoreType.DMA,
    ],
    compiler_params=pltpu.CompilerParams(collective_id=0),
  )(x)


def _ring(x, *, wait=True):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:_DEVICES]), ("x",))
  spec = jax.P("x", None)
  body = functools.partial(_pass_on, wait=wait)
  return jax.jit(
    jax.shard_map(
      body, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
  )(x)


def _rows():
  v = jax.random.normal(jax.random.key(0), (_ROWS, _WIDTH))
  keep = (jnp.arange(_ROWS) % 5 == 1).astype(jnp.int32)
  return v, keep


def _blocks():
  shape = (_DEVICES * 8, 128)
  return jax.random.normal(jax.random.key(1), shape)


def test_a_gpu_kernel_with_its_barrier_passes():
  v, keep = _rows()
  poisoned = jnp.where(keep[:, None] > 0, v, jnp.nan)
  got = testing.assert_race_free(_kept_rows, poisoned, keep, machine="gpu")
  expected = np.asarray(v)[np.asarray(keep) > 0].sum(0)
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_single_rows_move_on_a_gpu_too():
  """What the interpreter allows, the compiler for a GPU need not."""
  program = testing.assert_compiles(_kept_rows, *_rows())
  (kernel,) = program.instructions("custom-call")
  assert "mosaic_gpu" in kernel


def test_a_gpu_kernel_without_its_barrier_is_caught():
  mutant = functools.partial(_kept_rows, wait=False)
  with pytest.raises(AssertionError, match="races, first: (read|write) of"):
    testing.assert_race_free(mutant, *_rows(), machine="gpu")


def test_a_ring_passes():
  x = _blocks()
  got = testing.assert_race_free(_ring, x, machine="tpu")
  blocks = np.asarray(x).reshape(_DEVICES, 8, 128)
  expected = blocks + np.roll(blocks, 1, axis=0)
  np.testing.assert_array_equal(got, expected.reshape(x.shape))


def test_a_ring_that_does_not_wait_is_caught():
  mutant = functools.partial(_ring, wait=False)
  with pytest.raises(AssertionError, match="races, first: (read|write) of"):
    testing.assert_race_free(mutant, _blocks(), machine="tpu")


def test_a_race_in_an_early_kernel_is_caught():
  """JAX's own flag is that of the last kernel."""
  v, keep = _rows()

  def program(v, keep):
    return _kept_rows(v, keep, wait=False) + _kept_rows(v, keep)

  with pytest.raises(AssertionError, match="races, first"):
    testing.assert_race_free(program, v, keep, machine="gpu")
  testing.assert_race_free(_kept_rows, v, keep, machine="gpu")


def test_a_check_that_cannot_fail_is_refused():
  with pytest.raises(ValueError, match="no kernel ran in its interpreter"):
    testing.assert_race_free(jnp.sin, jnp.ones(3), machine="gpu")
