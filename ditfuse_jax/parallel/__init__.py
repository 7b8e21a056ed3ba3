"""Meshes, the rules table, processes and chips."""

from ditfuse_jax.parallel.arrays import collect, spread
from ditfuse_jax.parallel.mesh import AXES, MeshConfig, make_mesh
from ditfuse_jax.parallel.rules import RULES, Sharder, shard_like

__all__ = ["AXES", "RULES", "MeshConfig", "Sharder", "collect", "make_mesh", "shard_like", "spread"]
