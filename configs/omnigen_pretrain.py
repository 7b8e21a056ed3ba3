"""The 3.8 B `omnigen` preset, all weights, sharded over many devices.

    ditfuse train --config omnigen_pretrain --workdir gs://bucket/run \\
        --config.data.mixture.photos.source=gs://bucket/packed/photos \\
        --config.autoencoder=hf://stabilityai/sdxl-vae

Time and result: not measured.  docs/pods.md leads to it on TPU pods.

The autoencoder is SDXL's as diffusers saves it (config.json and
diffusion_pytorch_model.safetensors); the training step encodes the photographs with it.
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
