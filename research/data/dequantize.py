"""Quantised GGUF blocks to float32, vectorised over blocks.

A block of 32 values holds one float16 scale d (and in Q4_1 a float16 minimum
m) before its small integers q:

  Q8_0: x = d q          q int8
  Q4_0: x = d (q - 8)    q in 0..15, low nibbles first, then high nibbles
  Q4_1: x = d q + m

A K block of 256 values holds float16 scales d (and m) of the whole block, and
small integer scales a (and b) of each run of 32 or 16 values:

  Q4_K: x = d a q - m b   q in 0..15, runs of 32, a and b of 6 bits
  Q6_K: x = d a (q - 32)  q in 0..63, runs of 16, a int8; 4 + 2 bits apart
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, UInt8

from research.data import ggml_types

# Values per step: bounds the temporaries to a few MiB beside the output.
_CHUNK_VALUES = 1 << 20

_Blocks = UInt8[np.ndarray, "blocks bytes"]
_Values = Float32[np.ndarray, "blocks values"]


def _f32(blocks: _Blocks, out: _Values) -> None:
  out[:] = blocks.view("<f4")


def _f16(blocks: _Blocks, out: _Values) -> None:
  out[:] = blocks.view("<f2")


def _bf16(blocks: _Blocks, out: _Values) -> None:
  # A bfloat16 is the upper half of a float32.
  np.left_shift(blocks.view("<u2"), 16, out=out.view("<u4"), dtype="<u4")


def _q8_0(blocks: _Blocks, out: _Values) -> None:
  scale = blocks[:, :2].view("<f2").astype(np.float32)
  np.multiply(scale, blocks[:, 2:].view(np.int8), out=out)


def _nibbles(packed: _Blocks) -> UInt8[np.ndarray, "blocks 32"]:
  return np.concatenate((packed & 15, packed >> 4), axis=1)


def _q4_0(blocks: _Blocks, out: _Values) -> None:
  scale = blocks[:, :2].view("<f2").astype(np.float32)
  np.multiply(scale, _nibbles(blocks[:, 2:]).view(np.int8) - 8, out=out)


def _q4_1(blocks: _Blocks, out: _Values) -> None:
  scale = blocks[:, :2].view("<f2").astype(np.float32)
  minimum = blocks[:, 2:4].view("<f2").astype(np.float32)
  np.multiply(scale, _nibbles(blocks[:, 4:]), out=out)
  out += minimum


def _six_bits(
  packed: _Blocks,
) -> tuple[UInt8[np.ndarray, "blocks 8"], UInt8[np.ndarray, "blocks 8"]]:
  """Unpacks 8 scales and 8 minima; the last 4 of each lend their top bits."""
  a, b, low = packed[:, :4], packed[:, 4:8], packed[:, 8:]
  scales = np.concatenate((a & 63, (low & 15) | (a >> 6 << 4)), axis=1)
  minima = np.concatenate((b & 63, (low >> 4) | (b >> 6 << 4)), axis=1)
  return scales, minima


def _q4_k(blocks: _Blocks, out: _Values) -> None:
  count = len(blocks)
  scale = blocks[:, :2].view("<f2").astype(np.float32)
  minimum = blocks[:, 2:4].view("<f2").astype(np.float32)
  scales, minima = _six_bits(blocks[:, 4:16])
  packed = blocks[:, 16:].reshape(count, 4, 1, 32)
  nibbles = np.concatenate((packed & 15, packed >> 4), axis=2)
  runs = out.reshape(count, 8, 32)
  np.multiply(
    (scale * scales)[..., None], nibbles.reshape(count, 8, 32), out=runs
  )
  runs -= (minimum * minima)[..., None]


def _q6_k(blocks: _Blocks, out: _Values) -> None:
  count = len(blocks)
  low = blocks[:, :128].reshape(count, 2, 1, 64)
  high = blocks[:, 128:192].reshape(count, 2, 1, 32)
  scales = blocks[:, 192:208].view(np.int8)
  scale = blocks[:, 208:].view("<f2").astype(np.float32)
  nibbles = np.concatenate((low & 15, low >> 4), axis=2)
  pairs = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
  values = nibbles.reshape(count, 256) | pairs.reshape(count, 256) << 4
  signed = (values.view(np.int8) - 32).reshape(count, 16, 16)
  runs = out.reshape(count, 16, 16)
  np.multiply((scale * scales)[..., None], signed, out=runs)


_DECODERS: dict[str, Callable[[_Blocks, _Values], None]] = {
  "F32": _f32,
  "F16": _f16,
  "BF16": _bf16,
  "Q8_0": _q8_0,
  "Q4_0": _q4_0,
  "Q4_1": _q4_1,
  "Q4_K": _q4_k,
  "Q6_K": _q6_k,
}

SUPPORTED = tuple(_DECODERS)


def dequantize(
  raw: UInt8[np.ndarray, " bytes"],
  ggml_type: ggml_types.GGMLType,
  *,
  out: Float32[np.ndarray, " values"],
) -> None:
  """Decodes whole blocks into `out`.

  Equal to the `gguf` package's decoder bit for bit, including infinite and
  NaN scales. Temporaries stay near 4 MiB however long `raw` is.

  Args:
    raw: the bytes of n blocks.
    ggml_type: layout of the blocks; its name is one of `SUPPORTED`.
    out: receives the n * block_size values; contiguous.

  Raises:
    KeyError: the type is not supported.

  Example:
    >>> import numpy as np
    >>> scale = np.array([0.5], "<f2").view(np.uint8)
    >>> block = np.concatenate((scale, np.arange(32, dtype=np.uint8)))
    >>> values = np.empty(32, np.float32)
    >>> dequantize(block, ggml_types.TYPES[8], out=values)
    >>> values[:4].tolist()
    [0.0, 0.5, 1.0, 1.5]
  """
  decode = _DECODERS[ggml_type.name]
  blocks = raw.reshape(-1, ggml_type.block_bytes)
  values = out.reshape(len(blocks), ggml_type.block_size)
  step = max(1, _CHUNK_VALUES // ggml_type.block_size)
  with np.errstate(over="ignore", invalid="ignore"):
    for start in range(0, len(blocks), step):
      stop = start + step
      decode(blocks[start:stop], values[start:stop])
