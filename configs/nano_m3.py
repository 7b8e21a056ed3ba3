"""The `nano` model on M3 pairs of the sample photographs: minutes on a laptop's CPU.

ditfuse train --config nano_m3 --workdir runs/nano
"""

from ditfuse_jax.train.recipe import Config, default_config


def get_config(arg: str = "") -> Config:
    """Returns the recipe."""
    del arg
    config = default_config("nano")
    config.data.crop = (128, 128)
    config.data.batch_size = 16
    config.data.workers = 0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 20
    config.optimizer.weight_decay = 0.01
    config.train.steps = 300
    config.train.ema_decay = 0.99
    config.train.log_every = 10
    config.train.checkpoint_every = 100
    config.train.evaluate_every = 0
    config.sample.steps = 4
    config.sample.guidance = 1.0
    config.sample.image_guidance = 1.0
    return config
