import gguf as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from research.data import dequantize, ggml_types, gguf

_BY_NAME = {
  layout.name: (number, layout) for number, layout in ggml_types.TYPES.items()
}


def _ours(raw: np.ndarray, name: str) -> np.ndarray:
  layout = _BY_NAME[name][1]
  values = np.empty(
    raw.size // layout.block_bytes * layout.block_size, np.float32
  )
  dequantize.dequantize(raw, layout, out=values)
  return values


def _theirs(raw: np.ndarray, name: str) -> np.ndarray:
  number = oracle.GGMLQuantizationType(_BY_NAME[name][0])
  with np.errstate(all="ignore"):
    return oracle.quants.dequantize(raw, number).reshape(-1)


def _assert_same_bits(got: np.ndarray, expected: np.ndarray) -> None:
  assert got.dtype == expected.dtype == np.float32
  nan = np.isnan(expected)  # which NaN it is depends on the compiler
  np.testing.assert_array_equal(np.isnan(got), nan)
  np.testing.assert_array_equal(
    got[~nan].view(np.uint32), expected[~nan].view(np.uint32)
  )


def test_every_layout_equals_the_gguf_package():
  for kind, (block_size, block_bytes) in oracle.GGML_QUANT_SIZES.items():
    layout = ggml_types.TYPES[int(kind)]
    assert (layout.name, layout.block_size, layout.block_bytes) == (
      kind.name,
      block_size,
      block_bytes,
    )


@pytest.mark.parametrize("name", dequantize.SUPPORTED)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_any_bytes_decode_as_in_the_gguf_package(name, data):
  # Any bytes: scales of every size, subnormal, infinite and NaN among them.
  num_blocks = data.draw(st.integers(1, 5))
  size = num_blocks * _BY_NAME[name][1].block_bytes
  raw = data.draw(hnp.arrays(np.uint8, size))
  _assert_same_bits(_ours(raw, name), _theirs(raw, name))


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1"])
@pytest.mark.parametrize(
  "scale", [0.0, -0.0, 6e-8, -65504.0, 65504.0, np.inf, np.nan]
)
def test_extreme_scales(name, scale):
  rng = np.random.default_rng(0)
  blocks = rng.integers(0, 256, (3, _BY_NAME[name][1].block_bytes), np.uint8)
  blocks[:, :2] = np.array([scale], "<f2").view(np.uint8)
  raw = blocks.reshape(-1)
  _assert_same_bits(_ours(raw, name), _theirs(raw, name))


@pytest.mark.parametrize("name", dequantize.SUPPORTED)
def test_longer_than_one_step(name):
  layout = _BY_NAME[name][1]
  num_blocks = dequantize._CHUNK_VALUES // layout.block_size + 7
  raw = np.random.default_rng(1).integers(
    0, 256, num_blocks * layout.block_bytes, np.uint8
  )
  _assert_same_bits(_ours(raw, name), _theirs(raw, name))


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "BF16", "F16"])
def test_quantised_values_come_back_near(name):
  values = np.random.default_rng(2).standard_normal(32 * 64, np.float32)
  number = oracle.GGMLQuantizationType(_BY_NAME[name][0])
  raw = oracle.quants.quantize(values, number).view(np.uint8).reshape(-1)
  bound = {"Q4_0": 0.6, "Q4_1": 0.4, "Q8_0": 0.03, "BF16": 0.02, "F16": 0.01}
  assert np.abs(_ours(raw, name) - values).max() < bound[name]


def test_every_tensor_of_the_real_model(smollm2_file: gguf.GGUFFile):
  for tensor in oracle.GGUFReader(smollm2_file.path).tensors:
    expected = oracle.quants.dequantize(tensor.data, tensor.tensor_type)
    got = smollm2_file.load(tensor.name)
    assert got.shape == expected.shape
    _assert_same_bits(got.reshape(-1), expected.reshape(-1))
