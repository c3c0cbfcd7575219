"""Whole programs compile for H100s, and say what XLA made of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from kernels_pallas import testing

_LIKE = jax.ShapeDtypeStruct


def _write(pool, x):
  return pool.at[3].set(x)


_POOL = _LIKE((64, 1024), jnp.float32), _LIKE((1024,), jnp.float32)
_POOL_BYTES = 64 * 1024 * 4


def test_a_donated_pool_is_written_in_place():
  write = jax.jit(_write, donate_argnums=0)
  program = testing.assert_compiles(write, *_POOL)
  assert program.alias_bytes == program.output_bytes == _POOL_BYTES
  assert program.temp_bytes < _POOL_BYTES
  assert not any("[64,1024]" in x for x in program.instructions("copy"))


def test_a_pool_that_is_not_donated_is_copied():
  program = testing.assert_compiles(_write, *_POOL)
  assert program.alias_bytes == 0
  assert any("[64,1024]" in x for x in program.instructions("copy"))


def test_collectives_of_eight_gpus_are_scheduled():
  mesh = jax.sharding.AbstractMesh((8,), ("x",))
  spec = jax.P("x")
  total = jax.shard_map(
    functools.partial(jax.lax.psum, axis_name="x"),
    mesh=mesh,
    in_specs=spec,
    out_specs=jax.P(),
  )
  x = _LIKE((8 * 1024,), jnp.float32, sharding=jax.NamedSharding(mesh, spec))
  program = testing.assert_compiles(total, x, topology="1x1x8")
  assert program.argument_bytes == 1024 * 4
  assert program.instructions("all-reduce-start")
  with pytest.raises(ValueError, match="got 1x1x4, expected 8 GPUs"):
    testing.assert_compiles(total, x, topology="1x1x4")


def test_a_program_that_does_not_compile_is_caught():
  """One program would need more shared memory than a multiprocessor has."""

  def kernel(a_ref, b_ref, out_ref):
    out_ref[...] = plgpu.dot(a_ref[...], b_ref[...])

  wide = _LIKE((256, 256), jnp.float32)
  call = pl.pallas_call(
    kernel, out_shape=wide, compiler_params=plgpu.CompilerParams()
  )
  with pytest.raises(AssertionError, match="[Ss]hared memory"):
    testing.assert_compiles(call, wide, wide)


def test_a_machine_without_the_compiler_skips(monkeypatch, tmp_path):
  monkeypatch.setenv("DECTET_GPUCC_PYTHON", str(tmp_path / "python"))
  with pytest.raises(pytest.skip.Exception, match="no GPU compiler: got no"):
    testing.assert_compiles(jnp.sin, np.ones(3, np.float32))
