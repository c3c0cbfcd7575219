"""Drop-ins for `lax.psum`, `all_gather` and `psum_scatter`, by algorithm."""

import difflib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from collectives import algorithms, dispatch, kernels, primitives
from collectives import schedule as sched

Axes = str | Sequence[str]


def all_reduce(
  x: Any,
  axes: Axes,
  *,
  op: str = "sum",
  algorithm: str = "xla",
  accumulate: DTypeLike | None = None,
  chunks: int = 1,
) -> Any:
  r"""Reduces arrays over mesh axes, inside `shard_map`.

  $$y_r = \sum_{s=0}^{p-1} x_s \quad \text{for every rank } r.$$

  Results of the schedules are the same on all ranks to the last bit. A sum or
  mean can be differentiated as `lax.psum` can, forwards and backwards.

  Args:
    x: an array or pytree of arrays, of any shape.
    axes: a mesh axis or several; `(node, local)` for hierarchical algorithms,
      whose ranks are then in row-major order.
    op: `"sum"`, `"max"` or `"mean"`.
    algorithm: a name of `algorithms.names("all_reduce")`, `"xla"` for what
      `lax` does, `"auto"` for what `collectives.dispatch` takes for arrays of
      such bytes on so many ranks, or `"nvrar_kernel"`: NVRAR as one kernel, on
      GPUs that reach each other's memory, and `lax.psum` elsewhere.
    accumulate: dtype in which it sends and adds, e.g. float32 for bfloat16 (at
      twice the bytes); by default that of `x`. The result has the dtype of `x`.
    chunks: pieces that follow one another through the steps, so that one is
      reduced while another travels.

  Returns:
    The reduced arrays. A mean of integers is a float, as `lax.pmean` gives.

  Raises:
    ValueError: unknown algorithm, op or axis.
    TypeError: arrays that are not numbers, a maximum of complex ones, or
      `accumulate` that cannot hold them.

  Example:
    >>> from jax.sharding import PartitionSpec as P
    >>> from research import mesh
    >>> total = jax.shard_map(
    ...   lambda x: all_reduce(x, ("node", "local"), algorithm="nvrar"),
    ...   mesh=mesh.make_mesh({"node": 1, "local": 1}),
    ...   in_specs=P(("node", "local")), out_specs=P())
    >>> total(jnp.arange(3)).tolist()
    [0, 1, 2]

  References:
    NVRAR: arXiv 2511.09557. Two-level algorithms of PCCL: arXiv 2504.18658.
  """
  if op not in ("sum", "max", "mean"):
    raise ValueError(f"op: got {op!r}, expected 'sum', 'max' or 'mean'")
  axes = _check("all_reduce", axes, algorithm, chunks, op)
  size = primitives.grid_of(axes).size

  def reduce(leaf):
    leaf = _check_numbers("all_reduce", leaf, op)
    dtype = leaf.dtype
    wide = _widen(leaf, accumulate)
    name = _algorithm("all_reduce", algorithm, wide, axes)
    if name in kernels.names("all_reduce"):
      kernels.check_dtype(name, wide)
    if name == "xla" and wide.size:
      total = (lax.pmax if op == "max" else lax.psum)(wide, axes)
    else:
      total = primitives.all_reduce(
        wide, axes, op=op, algorithm=name, chunks=chunks
      )
    if op == "mean":
      total = total / size
      dtype = jnp.result_type(dtype, jnp.float32) if _whole(dtype) else dtype
    return total.astype(dtype)

  return jax.tree.map(reduce, x)


def all_gather(
  x: Any,
  axes: Axes,
  *,
  axis: int = 0,
  tiled: bool = False,
  algorithm: str = "xla",
  chunks: int = 1,
) -> Any:
  """Gathers the arrays of all ranks, inside `shard_map`.

  Args:
    x: an array or pytree of arrays, of any shape.
    axes: a mesh axis or several, as in `all_reduce`.
    axis: where the new axis of ranks goes; if `tiled`, the axis along which the
      arrays are joined.
    tiled: join along an axis instead of making a new one.
    algorithm: a name of `algorithms.names("all_gather")`, `"xla"` or `"auto"`.
    chunks: pieces that follow one another through the steps.

  Returns:
    What `lax.all_gather` would return, in the order of ranks.

  Raises:
    ValueError: unknown algorithm or axis.
    TypeError: arrays that are not numbers.
  """
  axes = _check("all_gather", axes, algorithm, chunks)
  size = primitives.grid_of(axes).size

  def gather(leaf):
    leaf = _check_numbers("all_gather", leaf)
    where = _axis("axis", axis, leaf.ndim + (not tiled))
    name = _algorithm("all_gather", algorithm, leaf, axes)
    if name == "xla" and leaf.size:
      return lax.all_gather(leaf, axes, axis=where, tiled=tiled)
    blocks = primitives.all_gather(leaf, axes, algorithm=name, chunks=chunks)
    blocks = jnp.moveaxis(blocks, 0, where)
    if not tiled:
      return blocks
    shape = list(leaf.shape)
    shape[where] *= size
    return blocks.reshape(shape)

  return jax.tree.map(gather, x)


def reduce_scatter(
  x: Any,
  axes: Axes,
  *,
  scatter_dimension: int = 0,
  tiled: bool = False,
  algorithm: str = "xla",
  accumulate: DTypeLike | None = None,
  chunks: int = 1,
) -> Any:
  """Sums arrays over ranks, of which each keeps its part, inside `shard_map`.

  Args:
    x: an array or pytree of arrays.
    axes: a mesh axis or several, as in `all_reduce`.
    scatter_dimension: the axis that is split; of the size of the ranks, or a
      multiple if `tiled`.
    tiled: keep the axis, shortened, instead of dropping it.
    algorithm: a name of `algorithms.names("reduce_scatter")`, `"xla"` or
      `"auto"`.
    accumulate: dtype in which it sends and adds; by default that of `x`.
    chunks: pieces that follow one another through the steps.

  Returns:
    What `lax.psum_scatter` would return.

  Raises:
    ValueError: unknown algorithm or axis, or a size that does not divide.
    TypeError: arrays that are not numbers, or `accumulate` that cannot hold
      them.
  """
  axes = _check("reduce_scatter", axes, algorithm, chunks)
  size = primitives.grid_of(axes).size

  def scatter(leaf):
    leaf = _check_numbers("reduce_scatter", leaf)
    where = _axis("scatter_dimension", scatter_dimension, leaf.ndim)
    _check_divides(leaf.shape, where, size, tiled)
    wide = _widen(leaf, accumulate)
    name = _algorithm("reduce_scatter", algorithm, wide, axes)
    if name == "xla" and leaf.size:
      part = lax.psum_scatter(wide, axes, scatter_dimension=where, tiled=tiled)
      return part.astype(leaf.dtype)
    rest = leaf.shape[where] // size
    shape = leaf.shape[:where] + (size, rest) + leaf.shape[where + 1 :]
    blocks = jnp.moveaxis(wide.reshape(shape), where, 0)
    part = primitives.reduce_scatter(
      blocks, axes, algorithm=name, chunks=chunks
    )
    if not tiled:
      part = part.reshape(leaf.shape[:where] + leaf.shape[where + 1 :])
    return part.astype(leaf.dtype)

  return jax.tree.map(scatter, x)


def _check(
  collective: sched.Collective,
  axes: Axes,
  algorithm: str,
  chunks: int,
  op: str = "sum",
) -> tuple[str, ...]:
  """Raises on what does not depend on arrays; returns the axes as a tuple."""
  axes = (axes,) if isinstance(axes, str) else tuple(axes)
  bound = jax.sharding.get_abstract_mesh().manual_axes
  for axis in axes:
    if axis not in bound:
      close = difflib.get_close_matches(axis, bound, n=1)
      hint = f"; did you mean {close[0]!r}?" if close else ""
      raise ValueError(
        f"{collective}: got axis {axis!r}, expected axes of the shard_map "
        f"around it {tuple(bound)}{hint}"
      )
  if chunks < 1:
    raise ValueError(f"chunks: got {chunks}, expected 1 or more")
  if algorithm in ("xla", "auto"):
    return axes
  own = kernels.names(collective)
  if algorithm in own:
    kernels.check(algorithm, axes, op=op, chunks=chunks)
    return axes
  found = algorithms.find(algorithm, collective, also=("auto", "xla", *own))
  if found.hierarchical and len(axes) != 2:
    raise ValueError(
      f"{algorithm} has two levels: got axes {axes}, expected a pair such as "
      "('node', 'local')"
    )
  return axes


def _algorithm(
  collective: sched.Collective,
  algorithm: str,
  leaf: jax.Array,
  axes: tuple[str, ...],
) -> str:
  """Names what runs for one array; a rank by itself has nothing to choose."""
  grid = primitives.grid_of(axes)
  if grid.size == 1:
    return "xla"
  if algorithm != "auto":
    return algorithm
  shares = grid.size if collective == "all_gather" else 1
  return dispatch.resolve(
    collective,
    leaf.size * leaf.dtype.itemsize * shares,
    leaf.dtype.name,
    grid,
    two_axes=len(axes) == 2,
  )


def _check_numbers(collective: str, leaf: Any, op: str = "sum") -> jax.Array:
  leaf = jnp.asarray(leaf)
  if not jnp.issubdtype(leaf.dtype, jnp.number):
    raise TypeError(
      f"{collective}: got dtype {leaf.dtype}, expected numbers; cast it first"
    )
  if op == "max" and jnp.issubdtype(leaf.dtype, jnp.complexfloating):
    raise TypeError(
      f"{collective}: got dtype {leaf.dtype} for a maximum, expected real "
      "numbers; take real and imaginary parts or magnitudes"
    )
  return leaf


def _widen(leaf: jax.Array, accumulate: DTypeLike | None) -> jax.Array:
  """Raises where sums would lose fractions or imaginary parts."""
  if accumulate is None:
    return leaf
  kinds = (jnp.integer, jnp.floating, jnp.complexfloating)
  have, into = (
    next((i for i, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind)), -1)
    for dtype in (leaf.dtype, accumulate)
  )
  if into < have:
    raise TypeError(
      f"accumulate: got {jnp.dtype(accumulate)} for {leaf.dtype}, expected a "
      "dtype that holds such numbers, such as float32"
    )
  return leaf.astype(accumulate)


def _whole(dtype: DTypeLike) -> bool:
  return jnp.issubdtype(dtype, jnp.integer)


def _axis(name: str, axis: int, rank: int) -> int:
  if not -rank <= axis < rank:
    raise ValueError(f"{name}: got {axis}, expected one of {rank} dimensions")
  return axis % rank


def _check_divides(
  shape: tuple[int, ...], where: int, size: int, tiled: bool
) -> None:
  length = shape[where]
  if length % size if tiled else length != size:
    expected = f"a multiple of {size}" if tiled else f"{size}, or tiled=True"
    raise ValueError(
      f"reduce_scatter: got shape {shape} with {length} along dimension "
      f"{where}, expected {expected}; pad it"
    )
