"""OmniGen-v1 fine-tuned for fusion on one GPU: adapters with the settings of the released code.

    ditfuse train --config omnigen_lora:/path/to/OmniGen-v1 --workdir runs/lora \\
        --config.data.mixture.photos.source=/path/to/photographs

Time and result: not measured.

The folder after the colon holds OmniGen-v1 as downloaded (safetensors, config.json, tokenizer and
vae/), diffusers' port of it, or what `ditfuse convert` made of either.  Rank 8, alpha 8, on
`qkv_proj` and `o_proj`: 4.7 M trainable parameters, checkpoints of megabytes.  AdamW, learning rate
1e-4, no weight decay, clip 1.0, bfloat16 (docs/method.md).

`omnigen_lora_paper` has the paper's settings.  Continue from a released adapter with
`--config.lora.adapter=DIR`; its rank, alpha and target modules must be those of the recipe, and the
error message names the overrides that set them.
"""

from ditfuse_jax.train.initial import initialize_from
from ditfuse_jax.train.recipe import Config, default_config


def get_config(arg: str = "") -> Config:
    """Returns the recipe; `arg` is the folder of the weights."""
    config = default_config("omnigen")
    if arg:
        initialize_from(config, arg)
    config.lora.rank = 8
    config.lora.alpha = 8.0
    config.lora.target_modules = ("qkv_proj", "o_proj")
    config.data.crop = (512, 512)
    config.data.batch_size = 8
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 100
    config.train.steps = 10_000
    config.train.accumulation = 8
    config.train.ema_decay = 0.0
    config.evaluations.held_out.count = 4
    return config
