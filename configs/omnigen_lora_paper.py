"""`omnigen_lora` as the DiTFuse paper describes it: rank 64, scaling 0.5, all linear layers.

    ditfuse train --config omnigen_lora_paper:/path/to/OmniGen-v1 --workdir runs/paper

Time and result: not measured.

The linear layers are those of the transformer's blocks (arXiv 2512.07170, implementation details).
"""

from ditfuse_jax.train.recipe import Config, load_recipe


def get_config(arg: str = "") -> Config:
    """Returns the recipe; `arg` is the folder of the weights."""
    config = load_recipe(f"omnigen_lora:{arg}")
    with config.unlocked():
        config.lora.rank = 64
        config.lora.alpha = 32.0
        config.lora.target_modules = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
    return config
