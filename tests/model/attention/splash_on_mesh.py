"""Runs splash on a mesh of four devices; prints the error and the shape of a shard."""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "4"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ditfuse_jax.model import Layout
from ditfuse_jax.model.attention import attend
from ditfuse_jax.model.attention.context_parallel import context_parallel_attention
from ditfuse_jax.model.logical_axes import logical_axis_rules

MASK = Layout(text=(2, 1), grid=(1, 2), draws=2).full_mask


def main():
    mesh = jax.make_mesh((2, 2), ("data", "tensor"))
    rules = {"batch": "data", "heads": "tensor", "kv_heads": "tensor"}

    def resolver(axes, shape):
        return NamedSharding(mesh, PartitionSpec(*(rules.get(axis) for axis in axes)))

    random = np.random.default_rng(0)
    q = random.standard_normal((4, MASK.num_queries, 4, 4)).astype("f4")
    k, v = random.standard_normal((2, 4, MASK.num_keys, 2, 4)).astype("f4")
    valid = random.uniform(size=(4, MASK.num_keys)) < 0.7
    valid[:, 0] = True
    expected = attend(q, k, v, MASK, valid, implementation="reference")

    @jax.jit
    def run(q, k, v, valid):
        with logical_axis_rules(resolver):
            return context_parallel_attention(
                q, [k], [v], [MASK.num_keys], MASK, valid, implementation="splash"
            )

    heads = NamedSharding(mesh, PartitionSpec("data", None, "tensor", None))
    tokens = NamedSharding(mesh, PartitionSpec("data"))
    q, k, v = jax.device_put((q, k, v), heads)
    out = run(q, k, v, jax.device_put(valid, tokens))
    print(np.abs(out - expected).max(), out.addressable_shards[0].data.shape)


if __name__ == "__main__":
    main()
