"""Gradients in buckets: many arrays reduced by few collectives.

A small message costs its latency, so arrays that are ready at about the same
time travel as one vector. Which goes where is a plan: data, made once from
shapes, the same on every rank.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from collectives import api


@dataclasses.dataclass(frozen=True)
class Piece:
  """A run of one leaf's elements, in row-major order.

  Attributes:
    leaf: position of the leaf in `jax.tree.leaves`.
    path: its name, for people.
    start: first element of the run.
    size: number of elements.
  """

  leaf: int
  path: str
  start: int
  size: int


@dataclasses.dataclass(frozen=True)
class Bucket:
  """Pieces of one dtype that travel as one vector."""

  dtype: str
  pieces: tuple[Piece, ...]

  @property
  def size(self) -> int:
    """Number of elements."""
    return sum(piece.size for piece in self.pieces)

  @property
  def nbytes(self) -> int:
    """Number of bytes."""
    return self.size * jnp.dtype(self.dtype).itemsize


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which elements of a tree of arrays go into which bucket; hashable.

  Attributes:
    buckets: in the order in which they are to be sent.
    treedef: structure of the tree.
    shapes: of its leaves.
    dtypes: of its leaves.
  """

  buckets: tuple[Bucket, ...]
  treedef: jax.tree_util.PyTreeDef
  shapes: tuple[tuple[int, ...], ...]
  dtypes: tuple[str, ...]

  @property
  def nbytes(self) -> int:
    """Bytes of all buckets: those of the tree."""
    return sum(bucket.nbytes for bucket in self.buckets)

  def pack(self, tree: Any) -> tuple[jax.Array, ...]:
    """Returns one vector a bucket.

    Args:
      tree: arrays of the structure, shapes and dtypes of the plan.

    Raises:
      ValueError: another structure, shape or dtype.
    """
    leaves, treedef = jax.tree.flatten(tree)
    if treedef != self.treedef:
      raise ValueError(
        f"got a tree {treedef}, expected {self.treedef}; plan it anew"
      )
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    for piece in (piece for b in self.buckets for piece in b.pieces):
      self._check(piece, leaves[piece.leaf])
    return tuple(
      _concatenate([_read(leaves[p.leaf], p) for p in bucket.pieces])
      for bucket in self.buckets
    )

  def unpack(self, vectors: Sequence[jax.Array]) -> Any:
    """Undoes `pack`; dtypes are those of the vectors."""
    parts = [[] for _ in self.shapes]
    for bucket, vector in zip(self.buckets, vectors, strict=True):
      ends = np.cumsum([piece.size for piece in bucket.pieces])
      for piece, end in zip(bucket.pieces, ends.tolist(), strict=True):
        parts[piece.leaf].append((piece.start, vector[end - piece.size : end]))
    leaves = [
      _concatenate([part for _, part in sorted(have, key=lambda h: h[0])])
      if have
      else jnp.zeros(0, dtype)
      for have, dtype in zip(parts, self.dtypes, strict=True)
    ]
    return self.treedef.unflatten(
      leaf.reshape(shape)
      for leaf, shape in zip(leaves, self.shapes, strict=True)
    )

  def _check(self, piece: Piece, leaf: jax.Array) -> None:
    shape, dtype = self.shapes[piece.leaf], self.dtypes[piece.leaf]
    if leaf.shape != shape or str(leaf.dtype) != dtype:
      raise ValueError(
        f"{piece.path}: got {leaf.dtype} {leaf.shape}, expected {dtype} "
        f"{shape} as planned; plan it anew"
      )

  def __str__(self) -> str:
    lines = [
      f"{len(self.buckets)} buckets, {len(self.shapes)} arrays, "
      f"{self.nbytes} bytes"
    ]
    for index, bucket in enumerate(self.buckets):
      names = ", ".join(self._name(piece) for piece in bucket.pieces)
      lines.append(f"{index}: {bucket.nbytes} bytes {bucket.dtype}: {names}")
    return "\n".join(lines)

  def _name(self, piece: Piece) -> str:
    if piece.size == math.prod(self.shapes[piece.leaf]):
      return piece.path
    return f"{piece.path}[{piece.start}:{piece.start + piece.size}]"


def plan(
  tree: Any,
  *,
  max_bytes: int | None = None,
  first_use: Callable[[str], Any] | None = None,
) -> Plan:
  """Puts the leaves of a tree into buckets, those used last first.

  The backward pass has the gradients of the last layers first, so theirs are
  the first to send. Buckets hold one dtype each, come in the order in which
  they are complete, and are filled greedily; a leaf that is larger than a
  bucket is cut.

  Args:
    tree: arrays, or what has a shape and dtype.
    max_bytes: of a bucket; `None` makes one bucket a dtype.
    first_use: sort key by which the forward pass comes to a leaf, from its path
      such as `"blocks/0/scale"`; by default leaves are used in the order of
      `jax.tree.leaves`.

  Returns:
    The plan. Print it to see it.

  Raises:
    ValueError: `max_bytes` that holds no element.

  Example:
    >>> weights = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4), "c": jnp.zeros(1)}
    >>> print(plan(weights, max_bytes=20))
    3 buckets, 3 arrays, 44 bytes
    0: 20 bytes float32: c, b
    1: 20 bytes float32: a[0:5]
    2: 4 bytes float32: a[5:6]

  References:
    Li et al., PyTorch Distributed, arXiv 2006.15704, section 3.2.
  """
  shaped = jax.eval_shape(lambda tree: tree, tree)
  paths, leaves = [], []
  for path, leaf in jax.tree_util.tree_leaves_with_path(shaped):
    paths.append(jax.tree_util.keystr(path, simple=True, separator="/"))
    leaves.append(leaf)
  order = list(range(len(leaves)))
  if first_use is not None:
    order.sort(key=lambda index: first_use(paths[index]))
  return Plan(
    buckets=_fill(order[::-1], paths, leaves, max_bytes),
    treedef=jax.tree.structure(shaped),
    shapes=tuple(leaf.shape for leaf in leaves),
    dtypes=tuple(str(leaf.dtype) for leaf in leaves),
  )


def reduce_gradients(
  gradients: Any,
  axes: api.Axes,
  plan: Plan,
  *,
  op: str = "mean",
  algorithm: str = "xla",
  accumulate: DTypeLike | None = None,
  chunks: int = 1,
) -> Any:
  """Reduces gradients over ranks by one all-reduce a bucket.

  Inside `shard_map`. Parameters that are the same on all ranks must be marked
  as varying before they are differentiated, or else autodiff itself sums their
  gradients: `jax.grad(loss)(lax.pcast(params, axes, to="varying"))`.

  Args:
    gradients: this rank's, as planned.
    axes: a mesh axis or several, as in `collectives.all_reduce`.
    plan: of the gradients, which have the shapes of their parameters.
    op: `"mean"` or another that `collectives.all_reduce` knows.
    algorithm: of the all-reduce.
    accumulate: dtype in which it sends and adds.
    chunks: pieces of each bucket that follow one another.

  Returns:
    The reduced gradients, the same on all ranks.

  Raises:
    ValueError: gradients that autodiff has summed already, that were not
      planned so, or what `collectives.all_reduce` refuses.
  """
  vectors = plan.pack(gradients)
  _check_own(gradients, (axes,) if isinstance(axes, str) else tuple(axes))
  return plan.unpack(
    api.all_reduce(
      vectors,
      axes,
      op=op,
      algorithm=algorithm,
      accumulate=accumulate,
      chunks=chunks,
    )
  )


def _fill(order, paths, leaves, max_bytes) -> tuple[Bucket, ...]:
  """Fills buckets in order; a dtype has one that is open at a time."""
  open_: dict[str, list[Piece]] = {}
  closed: list[tuple[int, Bucket]] = []  # with the turn of its last piece

  def close(turn, dtype):
    closed.append((turn, Bucket(dtype, tuple(open_.pop(dtype)))))

  last = {}
  for turn, index in enumerate(order):
    leaf, dtype = leaves[index], str(leaves[index].dtype)
    capacity = _capacity(leaf, max_bytes)
    for start in range(0, leaf.size, capacity):
      size = min(capacity, leaf.size - start)
      held = sum(piece.size for piece in open_.get(dtype, ()))
      if held and held + size > capacity:
        close(last[dtype], dtype)
      piece = Piece(index, paths[index], start, size)
      open_.setdefault(dtype, []).append(piece)
      last[dtype] = turn
  for dtype in list(open_):
    close(last[dtype], dtype)
  return tuple(bucket for _, bucket in sorted(closed, key=lambda c: c[0]))


def _capacity(leaf: Any, max_bytes: int | None) -> int:
  """Elements of a bucket of the leaf's dtype."""
  if max_bytes is None:
    return np.iinfo(np.int64).max
  capacity = max_bytes // leaf.dtype.itemsize
  if capacity < 1:
    raise ValueError(
      f"max_bytes: got {max_bytes}, expected at least {leaf.dtype.itemsize}, "
      f"one {leaf.dtype}"
    )
  return capacity


def _read(leaf: jax.Array, piece: Piece) -> jax.Array:
  return leaf.reshape(-1)[piece.start : piece.start + piece.size]


def _concatenate(parts: list[jax.Array]) -> jax.Array:
  return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _check_own(gradients: Any, axes: tuple[str, ...]) -> None:
  """Raises where `shard_map` knows that ranks hold the same gradients."""
  known = jax.typeof(lax.axis_index(axes)).mat.varying  # none if unchecked
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    same = [a for a in axes if a in known - jax.typeof(leaf).mat.varying]
    if same:
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      raise ValueError(
        f"gradients {name}: got the same on all ranks of {tuple(same)}, which "
        "autodiff has summed already, expected each rank's own; differentiate "
        'at jax.lax.pcast(params, axes, to="varying")'
      )
