"""Algorithms that are a kernel for GPUs instead of a schedule."""

import jax

from collectives import schedule as sched

NVRAR_KERNEL = "nvrar_kernel"


def names(collective: sched.Collective) -> list[str]:
  """The kernels that compute `collective`.

  Example:
    >>> names("all_reduce"), names("all_gather")
    (['nvrar_kernel'], [])
  """
  return [NVRAR_KERNEL] if collective == "all_reduce" else []


def check(
  name: str, axes: tuple[str, ...], *, op: str = "sum", chunks: int = 1
) -> None:
  """Raises on what a kernel does not do.

  Raises:
    ValueError: a maximum, chunks, or more than two axes.
  """
  if op == "max":
    raise ValueError(f"op: got 'max' for {name}, expected 'sum' or 'mean'")
  if chunks != 1:
    raise ValueError(f"chunks: got {chunks} for {name}, expected 1")
  if len(axes) > 2:
    raise ValueError(
      f"{name}: got axes {axes}, expected one, or a pair such as "
      "('node', 'local')"
    )


def check_dtype(name: str, x: jax.Array) -> None:
  """Raises on numbers that a kernel does not add.

  Raises:
    TypeError: neither float32 nor bfloat16.
  """
  if x.dtype.name not in ("bfloat16", "float32"):
    raise TypeError(
      f"{name}: got dtype {x.dtype}, expected float32 or bfloat16; cast it, or "
      "take accumulate=jnp.float32"
    )


def all_reduce(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
  """Sums by the kernel on a GPU, by `lax.psum` elsewhere."""
  # Pallas for GPUs takes long to import, and few programs need it.
  from kernels_pallas.hierarchical_all_reduce import api

  return api.hierarchical_all_reduce(x, axes)
