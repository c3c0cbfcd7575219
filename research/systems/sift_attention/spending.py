"""What a sifted generation read, as metrics and as one line."""

from collections.abc import Sequence

import jax
import numpy as np

from research.systems.sift_attention import generation, sifting


def whole(states: Sequence[generation.State]) -> sifting.Budget:
  """Returns the budget that all layers of a generation used together.

  Args:
    states: of each layer, at the end; exact layers count as dense ones.

  Returns:
    The budget; `head_share` is `[layer, b, h]`.

  Raises:
    ValueError: if no step was decoded.
  """
  totals = jax.device_get([state.totals for state in states])
  stacked = jax.tree.map(lambda *layers: np.stack(layers), *totals)
  return sifting.spent(stacked, **_sizes(states[0]))


def metrics(states: Sequence[generation.State]) -> dict[str, float]:
  """Names what a generation read, for a `MetricWriter`.

  Shares are of what dense attention has or reads: `kept_share` of scores,
  `row_share` of value rows after the union over each group, `byte_share` of the
  bytes of keys and values, of which keys are always read.

  Args:
    states: of each layer, at the end.

  Returns:
    Numbers by name: of all layers, of each layer and of each of its heads.

  Raises:
    ValueError: if no step was decoded.
  """
  found = _named("sift", whole(states))
  for layer, state in enumerate(states):
    name = f"sift/layer_{layer:02d}"
    budget = sifting.spent(state.totals, **_sizes(state))
    found |= _named(name, budget)
    # Sequences weigh alike here; a head's share is of its own rows.
    for head, share in enumerate(budget.head_share.mean(0)):
      found[f"{name}/head_{head:02d}_kept_share"] = float(share)
  return found


def summary(states: Sequence[generation.State]) -> str:
  """Says in one line what a generation read.

  Args:
    states: of each layer, at the end.

  Raises:
    ValueError: if no step was decoded.
  """
  used = whole(states)
  return (
    f"attention kept {used.kept_share:.1%} of scores and {used.mass:.1%} of "
    f"their mass; read {used.row_share:.1%} of value rows after the union over "
    f"groups, {used.byte_share:.1%} of the bytes of K and V that dense "
    "attention reads"
  )


def _sizes(state: generation.State) -> dict[str, int]:
  """Numbers in a key or value row, and bytes of one."""
  v = state.pages.v
  return {"width": v.shape[-1], "itemsize": v.dtype.itemsize}


def _named(prefix: str, used: sifting.Budget) -> dict[str, float]:
  return {
    f"{prefix}/kept_share": used.kept_share,
    f"{prefix}/row_share": used.row_share,
    f"{prefix}/byte_share": used.byte_share,
    f"{prefix}/read_bytes": used.bytes_read,
    f"{prefix}/mass_share": used.mass,
  }
