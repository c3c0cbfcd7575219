"""Device meshes, logical-axis sharding rules and random-key streams."""

from research.mesh.meshes import make_mesh
from research.mesh.rng import key
from research.mesh.sharding import ShardingRules

__all__ = ["ShardingRules", "key", "make_mesh"]
