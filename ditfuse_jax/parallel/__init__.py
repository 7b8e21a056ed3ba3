"""Meshes, sharding rules, processes and accelerators."""

from ditfuse_jax.parallel.arrays import distribute, gather, missing_rows
from ditfuse_jax.parallel.mesh import AXES, MeshConfig, make_mesh
from ditfuse_jax.parallel.rules import RULES, Partitioner, shard_like

__all__ = [
    "AXES",
    "RULES",
    "MeshConfig",
    "Partitioner",
    "distribute",
    "gather",
    "make_mesh",
    "missing_rows",
    "shard_like",
]
