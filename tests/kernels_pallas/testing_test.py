"""The checks catch what they are for, on kernels of JAX and on toys."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jax.experimental.pallas.ops.gpu import decode_attention

from kernels_pallas import testing

_DECODE = functools.partial(decode_attention.mqa, k_splits=2, block_h=16)


def _decode_args():
  keys = jax.random.split(jax.random.key(0), 3)
  q = jax.random.normal(keys[0], (1, 16, 64))
  return q, *(jax.random.normal(key, (1, 256, 64)) for key in keys[1:])


def _gather(x, wanted, *, masked=True, interpret=True):
  """Adds up the wanted of 64 numbers, loading only them if `masked`."""

  def kernel(x_ref, wanted_ref, out_ref):
    wanted = wanted_ref[...]
    if masked:
      got = plgpu.load(x_ref, mask=wanted > 0, other=0.0)
    else:
      got = x_ref[...] * wanted
    out_ref[...] = got

  return pl.pallas_call(
    kernel,
    out_shape=jax.ShapeDtypeStruct((64,), jnp.float32),
    interpret=interpret,
    compiler_params=plgpu.CompilerParams(num_warps=2, num_stages=1),
  )(x, wanted)


def test_a_kernel_of_jax_passes():
  interpreted = functools.partial(_DECODE, interpret=True)
  plain = decode_attention.mqa_reference
  args = _decode_args()
  testing.assert_matches_reference(interpreted, plain, args, rtol=1e-5)
  (kernel,) = testing.assert_lowers(_DECODE, *args)
  assert kernel.grid == (1, 2, 1)
  assert "tt.dot" in kernel.ir


def test_a_kernel_of_jax_compiles():
  (kernel,) = testing.assert_lowers(_DECODE, *_decode_args())
  used = testing.assert_resources(kernel, sm=90)
  assert 0 < used.registers <= 255


def test_a_wrong_number_is_caught():
  args = _decode_args()
  plain = decode_attention.mqa_reference
  wrong = lambda *args: plain(*args) * 1.001
  with pytest.raises(AssertionError, match="got error .* expected at most"):
    testing.assert_matches_reference(wrong, plain, args, rtol=1e-5)


@pytest.mark.parametrize(
  "wrong",
  [jnp.array([1, 3]), jnp.array([1.0, 2.0]), jnp.array([1])],
  ids=["value", "dtype", "shape"],
)
def test_other_integers_dtypes_and_shapes_are_caught(wrong):
  with pytest.raises(AssertionError):
    testing.assert_matches_reference(
      lambda: wrong, lambda: jnp.array([1, 2]), (), rtol=1.0
    )


def test_infinities_must_be_in_their_places():
  plain = lambda: jnp.array([-jnp.inf, 1.0])
  testing.assert_matches_reference(plain, plain, (), rtol=0.0)
  for wrong in ([1.0, 1.0], [jnp.nan, 1.0], [-jnp.inf, jnp.nan]):
    with pytest.raises(AssertionError):
      testing.assert_matches_reference(
        functools.partial(jnp.array, wrong), plain, (), rtol=1.0
      )


def test_reads_are_caught():
  x = jnp.arange(64.0)
  wanted = (x % 3 == 0).astype(jnp.float32)
  unread = np.asarray(wanted == 0), None
  testing.assert_never_reads(_gather, (x, wanted), unread)
  careless = functools.partial(_gather, masked=False)
  with pytest.raises(AssertionError, match="42 of 64 elements changed"):
    testing.assert_never_reads(careless, (x, wanted), unread)


def test_a_kernel_of_jax_reads_up_to_the_end_of_a_block():
  """It adds a mask to the scores of a block, and NaN survives that."""

  def check(length):
    kernel = functools.partial(
      _DECODE, interpret=True, kv_seq_len=jnp.array([length])
    )
    unread = jnp.arange(256)[None, :, None] >= length
    unread = jnp.broadcast_to(unread, (1, 256, 64))
    args = _decode_args()
    testing.assert_never_reads(kernel, args, (None, unread, unread))

  check(128)  # two blocks, of which one is left out
  with pytest.raises(AssertionError, match="1024 of 1024 elements changed"):
    check(100)


def test_a_check_that_cannot_fail_is_refused():
  x = jnp.ones((64,))
  with pytest.raises(ValueError, match="got no element, expected at least one"):
    testing.assert_never_reads(_gather, (x, x), (np.zeros(64, bool), None))


def test_a_program_without_a_kernel_is_caught():
  with pytest.raises(AssertionError, match="no __gpu.* call in the program"):
    testing.assert_lowers(jnp.sin, jnp.ones(3))


def test_what_interprets_but_does_not_lower_is_caught():
  def kernel(x_ref, out_ref):
    out_ref[...] = jnp.sort(x_ref[...])

  shape = jax.ShapeDtypeStruct((64,), jnp.float32)
  call = lambda interpret: pl.pallas_call(
    kernel,
    out_shape=shape,
    interpret=interpret,
    compiler_params=plgpu.CompilerParams(),
  )
  assert call(True)(-jnp.arange(64.0))[0] == -63.0
  with pytest.raises(NotImplementedError, match="sort"):
    testing.assert_lowers(call(False), shape)


def test_spills_are_caught():
  """128 x 256 sums of one warp are 1024 a thread, which has 255 registers."""

  def kernel(a_ref, b_ref, out_ref):
    out_ref[...] = plgpu.dot(a_ref[...], b_ref[...])

  like = jax.ShapeDtypeStruct
  call = pl.pallas_call(
    kernel,
    out_shape=like((128, 256), jnp.float32),
    compiler_params=plgpu.CompilerParams(num_warps=1, num_stages=1),
  )
  a, b = like((128, 64), jnp.bfloat16), like((64, 256), jnp.bfloat16)
  (lowered,) = testing.assert_lowers(call, a, b)
  with pytest.raises(AssertionError, match="spill instructions, expected"):
    testing.assert_resources(lowered, sm=80)


def test_a_machine_without_the_compiler_skips(monkeypatch, tmp_path):
  monkeypatch.setenv("DECTET_GPUCC_PYTHON", str(tmp_path / "python"))
  (lowered,) = testing.assert_lowers(_DECODE, *_decode_args())
  with pytest.raises(pytest.skip.Exception, match="no GPU compiler: got no"):
    testing.assert_resources(lowered, sm=90)


def test_as_a_plugin_it_says_what_kernels_run_on(tmp_path):
  """And explains the asserts inside the checks, as pytest does in tests."""
  (tmp_path / "pytest.ini").write_text("[pytest]\n")
  (tmp_path / "shape_test.py").write_text(
    "import jax.numpy as jnp\n"
    "from kernels_pallas import testing\n"
    "def test():\n"
    "  plain = lambda: jnp.zeros(1 if testing.interpreted() else 2)\n"
    "  wrong = lambda: jnp.zeros(3)\n"
    "  testing.assert_matches_reference(wrong, plain, (), rtol=0.0)\n"
  )
  command = [sys.executable, "-m", "pytest", "-p", "kernels_pallas.testing"]
  done = subprocess.run(
    [*command, "-c", "pytest.ini", "shape_test.py"],
    cwd=tmp_path,
    env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    capture_output=True,
    text=True,
  )
  header = "kernels: interpreted on cpu; GPU compiler: none, its tests skip"
  assert header in done.stdout, done.stdout + done.stderr
  assert "assert ((3,), dtype" in done.stdout
