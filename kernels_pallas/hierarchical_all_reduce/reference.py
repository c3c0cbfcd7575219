"""The sum in plain `jnp`, in the very order in which the kernel adds."""

import jax
from jax import lax
from jaxtyping import Array, Int32

from kernels_pallas.hierarchical_all_reduce import plan as plans
from kernels_pallas.hierarchical_all_reduce import words


def all_reduce(
  parts: Int32[Array, "local words"],
  plan: plans.Plan,
  axes: tuple[str, ...],
  *,
  dtype: str,
) -> Int32[Array, "local words"]:
  """Gathers everything on every device and adds it up there.

  Args:
    parts: the input, divided by local rank.
    plan: who sends what to whom.
    axes: of nodes, if any, and of the local ranks of a node.
    dtype: of the numbers in the words.

  Returns:
    The sum, the same as the kernel's to the last bit.
  """
  everything = lax.all_gather(parts, axes)
  everything = everything.reshape(plan.nodes, plan.local, *parts.shape)
  return jax.numpy.stack(
    [
      _sum(everything[:, :, part], part, plan, dtype)
      for part in range(plan.local)
    ]
  )


def _sum(x: jax.Array, part: int, plan: plans.Plan, dtype: str) -> jax.Array:
  """One part's sum; `x` has the words of each node and local rank."""
  sums = []
  for node in x:
    total = node[part]
    for hop in range(1, plan.local):
      total = words.add(total, node[(part - hop) % plan.local], dtype)
    sums.append(total)
  for extra, total in enumerate(sums[plan.core :]):
    sums[extra] = words.add(sums[extra], total, dtype)
  sums = sums[: plan.core]
  while len(sums) > 1:
    pairs = zip(sums[::2], sums[1::2], strict=True)
    sums = [words.add(a, b, dtype) for a, b in pairs]
  return sums[0]
