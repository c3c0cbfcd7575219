"""Time of decode attention by its memory traffic: a model, not a measurement.

Every input is a data sheet's figure, a shape, or a count measured by the study.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class GPU:
  """A device and the bandwidth of its memory.

  Attributes:
    name: of the device.
    bytes_per_second: peak bandwidth.
    source: where the figure stands.
  """

  name: str
  bytes_per_second: float
  source: str


@dataclasses.dataclass(frozen=True)
class Shape:
  """What one decode step of one layer attends to.

  Attributes:
    name: of the model that has these heads.
    heads: query heads.
    kv_heads: key-value heads.
    width: of a head.
    context: keys seen.
    batch: sequences.
  """

  name: str
  heads: int
  kv_heads: int
  width: int
  context: int
  batch: int


GPUS = (
  GPU("A100 40GB", 1555e9, "NVIDIA A100 data sheet"),
  GPU("A100 80GB", 2039e9, "NVIDIA A100 data sheet, SXM"),
  GPU("H100 80GB", 3350e9, "NVIDIA H100 data sheet, SXM"),
)
SHAPES = (
  Shape("SmolLM2-135M", 9, 3, 64, 8192, 16),
  Shape("heads of Llama-3-8B", 32, 8, 128, 8192, 16),
)
CEILING = 2.0  # all keys are read, and they are half of the bytes
_ITEM = 2  # bytes of a key's or value's number: bfloat16
_SCORE = 4  # bytes of a spilled score: float32


@dataclasses.dataclass(frozen=True)
class Modelled:
  """What the model says.

  Attributes:
    bytes_read: keys, kept values, and scores written and read back.
    dense_bytes: keys and values.
    seconds: of the sifted step of one layer.
    dense_seconds: of the dense one.
    inputs: all that went in, to print beside the result.
  """

  bytes_read: float
  dense_bytes: float
  seconds: float
  dense_seconds: float
  inputs: str


def model(shape: Shape, gpu: GPU, rows: float) -> Modelled:
  r"""Models two passes: scores of all keys, then the kept value rows.

  $$t = \frac{S b k (2 d (1 + f) + 8 g)}{\mathrm{bandwidth}}$$

  with $f$ the share of value rows read and 8 bytes for each score that is
  written by the first pass and read by the second.

  Args:
    shape: heads and context.
    gpu: gives the bandwidth.
    rows: $f$, after the union over each group.

  Returns:
    Bytes and seconds; latency, launches and caches are left out.

  Example:
    >>> found = model(SHAPES[1], GPUS[0], 0.0)
    >>> round(found.dense_seconds / found.seconds, 2)
    1.78
  """
  places = shape.context * shape.batch * shape.kv_heads
  row = shape.width * _ITEM
  spill = 2 * _SCORE * shape.heads // shape.kv_heads
  dense = float(places * 2 * row)
  read = float(places * (row * (1 + rows) + spill))
  return Modelled(
    bytes_read=read,
    dense_bytes=dense,
    seconds=read / gpu.bytes_per_second,
    dense_seconds=dense / gpu.bytes_per_second,
    inputs=f"{shape.name}: {shape.heads} query and {shape.kv_heads} key-value "
    f"heads of {shape.width}, context {shape.context}, batch {shape.batch}, "
    f"bfloat16; value rows {rows:.3f} (measured here); {spill} bytes of scores "
    f"a token and key-value head; {gpu.name}: {gpu.bytes_per_second / 1e9:.0f} "
    f"GB/s ({gpu.source})",
  )
