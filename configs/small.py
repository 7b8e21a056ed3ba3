"""`small`, the model for one GPU: M3 on photographs of your own.

    ditfuse train --config small --workdir runs/small \\
        --config.data.mixture.photos.source=/path/to/photographs

Time and result: not measured.

Expects a folder of a thousand or more photographs.  On several devices the batch is divided among
all of them; `--config.mesh.fsdp=-1 --config.mesh.data=1` shards the parameters as well.
"""

from ditfuse_jax.train.recipe import Config, default_config


def get_config(arg: str = "") -> Config:
    """Returns the recipe; `arg` is not used."""
    del arg
    config = default_config("small")
    config.model.text_slots = (32, 16, 80)
    config.data.crop = (256, 256)
    config.data.batch_size = 64
    config.flow.draws = 2
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup_steps = 500
    config.optimizer.weight_decay = 0.01
    config.train.steps = 20_000
    config.train.ema_decay = 0.999
    config.evaluations.held_out.every = 1000
    config.sample.steps = 10
    config.sample.guidance_scale = 1.0
    config.sample.image_guidance_scale = 1.0
    return config
