"""How our tensors are put together from stored ones, and taken apart.

Matrices are `[out, in]` there and here. Ours keep heads as axes, and what is
multiplied by the same vector lies together: a key-value head's queries with its
key and value, a hidden unit's gate with its up-projection. So a step runs four
products a layer instead of seven, and every shard holds whole heads and units.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Path = tuple[Any, ...]  # names and layer numbers


def stored_shapes(
  path: Path, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
  """Returns the shapes of the stored tensors of a parameter.

  Args:
    path: the parameter's.
    shape: its shape here.

  Example:
    >>> stored_shapes(("blocks", 0, "mlp", "gate_up"), (16, 2, 8))
    ((16, 8), (16, 8))
    >>> stored_shapes(("blocks", 0, "attention", "qkv", "bias"), (2, 5, 4))
    ((24,), (8,), (8,))
  """
  if "qkv" in path:
    kv_heads, slots, width, *rest = shape
    rows = kv_heads * width
    return (rows * (slots - 2), *rest), (rows, *rest), (rows, *rest)
  if path[-1] == "gate_up":
    return ((shape[0], shape[2]),) * 2
  if path[-1] == "out":
    return ((shape[0], shape[1] * shape[2]),)
  return (shape,)


def join(
  path: Path, parts: Sequence[np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
  """Puts a parameter together.

  Args:
    path: the parameter's.
    parts: stored tensors, of `stored_shapes`.
    shape: the parameter's shape here.

  Returns:
    The parameter; a view of the part where there is only one.
  """
  if "qkv" in path:
    kv_heads, _, width, *rest = shape
    heads = [part.reshape(kv_heads, -1, width, *rest) for part in parts]
    return np.concatenate(heads, axis=1)
  if path[-1] == "gate_up":
    return np.stack(parts, axis=1)
  return parts[0].reshape(shape)


def split(path: Path, value: np.ndarray) -> list[np.ndarray]:
  """Takes a parameter apart; the inverse of `join`.

  Args:
    path: the parameter's.
    value: the parameter.

  Returns:
    The stored tensors.
  """
  shapes = stored_shapes(path, value.shape)
  if "qkv" in path:
    parts = [value[:, :-2], value[:, -2:-1], value[:, -1:]]
  elif path[-1] == "gate_up":
    parts = [value[:, 0], value[:, 1]]
  else:
    parts = [value]
  return [
    np.ascontiguousarray(part.reshape(shape))
    for part, shape in zip(parts, shapes, strict=True)
  ]
