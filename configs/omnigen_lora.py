"""OmniGen-v1 on fusion with one GPU: the optimiser settings of DiTFuse's fine-tuning.

    ditfuse train --config omnigen_lora --workdir runs/lora

AdamW, learning rate 1e-4, no weight decay, clip 1.0, bf16 (DESIGN section 2, Fine-tuning).
Status: needs converted OmniGen-v1 weights, low-rank adapters and the autoencoder, which this
version does not have yet, and says so when started.
"""

from ditfuse_jax.train.recipe import Config, default_config


def get_config(arg: str = "") -> Config:
    """Returns the recipe; `arg` is not used."""
    del arg
    config = default_config("omnigen")
    config.data.crop = (512, 512)
    config.data.batch_size = 8
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 100
    config.train.steps = 10_000
    config.train.accumulation = 8
    config.train.ema_decay = 0.0
    config.model.remat = "full"
    return config
