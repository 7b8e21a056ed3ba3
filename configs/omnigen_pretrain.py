"""The 3.8 B `omnigen` preset, all weights, sharded over many devices.

    ditfuse train --config omnigen_pretrain --workdir gs://bucket/run

Status: the transformer, its sharding and its numbers stand; training it needs the autoencoder that
turns photographs into latents, which this version does not have yet, and says so when started.
`ditfuse_jax.train.state.abstract_state` gives the state's shapes and shardings without allocating.
"""

from ditfuse_jax.train.recipe import Config, default_config


def get_config(arg: str = "") -> Config:
    """Returns the recipe; `arg` is the side of the square training crops, 512 by default."""
    side = int(arg or 512)
    config = default_config("omnigen")
    config.data.crop = (side, side)
    config.data.batch_size = 256
    config.data.workers = 16
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "constant"
    config.train.steps = 200_000
    # Parameters are sharded over all devices; the batch too.
    config.mesh.data = 1
    config.mesh.fsdp = -1
    return config
