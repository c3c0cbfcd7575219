"""From logical axis names of an array to mesh axes."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import NamedSharding, PartitionSpec


@dataclasses.dataclass(frozen=True)
class ShardingRules:
  """Says which mesh axes divide each logical axis.

  A logical axis whose size the mesh does not divide stays whole: 9 heads on two
  devices are replicated while the 1,536 hidden units beside them are split.

  Attributes:
    rules: logical axis name to the mesh axes that divide it, outermost first.

  Example:
    >>> rules = ShardingRules({"mlp": ("local",)})
    >>> mesh = jax.sharding.AbstractMesh((2,), ("local",))
    >>> rules.spec(("embed", "mlp"), (576, 1536), mesh)
    P(None, 'local')
  """

  rules: Mapping[str, tuple[str, ...]]

  def spec(
    self,
    axes: Sequence[str | None],
    shape: Sequence[int],
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh,
  ) -> PartitionSpec:
    """Returns the partition of an array.

    Args:
      axes: the logical name of each axis; `None` keeps one whole.
      shape: the array's shape.
      mesh: the mesh; rules naming axes that it lacks do not apply.

    Returns:
      One entry an axis, in order.

    Raises:
      ValueError: if ranks differ, or one mesh axis would divide two axes.
    """
    if len(axes) != len(shape):
      raise ValueError(
        f"axes {tuple(axes)} name {len(axes)} dimensions, got shape "
        f"{tuple(shape)}; give one name (or None) a dimension"
      )
    entries = [
      self._divide(name, size, mesh)
      for name, size in zip(axes, shape, strict=True)
    ]
    used = [axis for entry in entries for axis in entry]
    if len(used) != len(set(used)):
      raise ValueError(
        f"axes {tuple(axes)} use a mesh axis twice: got {entries}; map at most "
        "one of them to each mesh axis"
      )
    return PartitionSpec(*(self._entry(entry) for entry in entries))

  def sharding(
    self,
    axes: Sequence[str | None],
    shape: Sequence[int],
    mesh: jax.sharding.Mesh,
  ) -> NamedSharding:
    """Returns `spec` bound to `mesh`."""
    return NamedSharding(mesh, self.spec(axes, shape, mesh))

  def _divide(self, name, size, mesh) -> tuple[str, ...]:
    axes = tuple(a for a in self.rules.get(name, ()) if a in mesh.shape)
    parts = math.prod(mesh.shape[a] for a in axes)
    return axes if parts > 1 and size % parts == 0 else ()

  @staticmethod
  def _entry(axes: tuple[str, ...]):
    return None if not axes else axes[0] if len(axes) == 1 else axes
